"""The fold: what all records add up to."""
