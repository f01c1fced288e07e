"""The DuckDB lineage store: rows of the log for named queries."""
