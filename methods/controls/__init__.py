"""Controls: what a method must beat to have done anything."""
