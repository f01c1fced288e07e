"""The ledger: facts, rules, state, log, and the services around them."""
