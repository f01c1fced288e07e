"""Kinds of facts and the fields that each has."""
