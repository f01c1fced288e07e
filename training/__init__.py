"""Make a candidate: pin the data, search, fit, bundle, and hand it to the validators."""
