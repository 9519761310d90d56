"""The parts that methods are made of: the card, the hooks, the training loop, and shared helpers."""
