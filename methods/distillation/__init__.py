"""A smaller student that learns from a teacher."""
