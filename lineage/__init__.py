"""The record: what may be recorded, what it means, and where it is kept."""
