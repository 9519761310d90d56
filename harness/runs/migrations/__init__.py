"""Migrations of committed records that reading them cannot make: each is run once, and stays as a document."""
