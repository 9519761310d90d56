"""Runs: what is to be done, done cell by cell, and recorded."""
