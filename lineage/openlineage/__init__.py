"""OpenLineage events made from facts, and their outbox."""
