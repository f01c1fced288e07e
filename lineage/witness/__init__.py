"""The witness: a process with its own key that cosigns checkpoints, and the ledger's client of it."""
