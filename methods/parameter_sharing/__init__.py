"""Methods that let layers share weights."""
