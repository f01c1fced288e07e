"""Training: pin the data, search, fit, write the bundle, and have the candidate validated."""
