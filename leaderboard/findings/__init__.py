"""The papers' findings, tried on the records."""
