"""Methods that train a smaller student with a teacher."""
