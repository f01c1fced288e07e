"""Decisions on record: spool, sealed segments, index."""
