"""Confidence intervals used by checks and monitors: one statistic a file, pure functions."""
