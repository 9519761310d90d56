"""What one cell measured, as JSON: schema, cells, store, checks, result versions."""
