"""The elastic encoder: BERT whose layers may differ from each other."""
