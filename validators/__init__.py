"""Validation: checks, drift, fairness, policies and reports."""
