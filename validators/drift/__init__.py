"""Drift: does live traffic still look like the traffic that the release was validated on?"""
