"""Conformance suites: what every installed check and drift statistic must hold, for their authors to run.

    python -m validators.conformance            # every installed check and drift statistic
    python -m validators.conformance NAME ...   # these

Each suite is a function that returns the problems it found as sentences; an empty list conforms. The suite of model
families is `training.conformance`, because it trains.
"""
