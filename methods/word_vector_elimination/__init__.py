"""Methods that eliminate the vectors of words between layers."""
