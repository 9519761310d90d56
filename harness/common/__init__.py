"""Base of every other package: errors, files, hashes, hardware, lazy imports, isolated processes."""
