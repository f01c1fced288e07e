"""The independent verifier for examiners: one file without imports from this project."""
