"""Benchmarks beside peers in one run; only ratios are comparable between machines."""
