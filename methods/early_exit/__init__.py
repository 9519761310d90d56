"""Methods whose rows leave the encoder at an inner layer when they are sure enough."""
