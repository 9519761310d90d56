"""Single weights set to zero."""
