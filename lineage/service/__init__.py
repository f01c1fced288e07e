"""The ledger service: HTTP routes over the ledger."""
