"""Intervals that checks and monitors quote, one statistic a file, each pure."""
