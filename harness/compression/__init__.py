"""What methods are made of: the card, the hooks, the training loop, and the helpers that several methods share."""
