"""FLOPs of one pass of a model, counted until no operator that computes is left out."""
