"""FLOPs of one forward pass of a model. Every operator that computes is counted, or named as uncounted."""
