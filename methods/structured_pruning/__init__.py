"""Methods that remove whole layers, heads, columns or blocks."""
