"""The elastic encoder: BERT with layers that may differ from each other."""
