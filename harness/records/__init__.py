"""Records of what cells measured, as JSON: schema, cells, store, checks, result versions."""
