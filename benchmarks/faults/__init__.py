"""Fault runs: processes killed, power lost and bytes changed, with counts of failures."""
