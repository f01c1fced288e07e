"""The witness, a separate process that cosigns checkpoints with its own key, and the ledger's client of it."""
