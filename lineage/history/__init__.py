"""Answers about the past: as of a time, provenance, the dossier of a release."""
