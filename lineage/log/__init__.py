"""The append-only log: segment files, Merkle tree, checkpoints, group commit."""
