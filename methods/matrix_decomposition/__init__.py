"""Methods that replace a matrix by a product of two smaller ones."""
