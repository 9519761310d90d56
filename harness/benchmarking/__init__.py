"""The timed suite of `pytest --benchmark`: which cells it measures, and how their passes reach pytest-benchmark."""
