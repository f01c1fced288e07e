"""Bundles in memory: verified, proven in a sandbox, within a memory budget."""
