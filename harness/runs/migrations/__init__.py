"""Migrations that rewrite committed records. Each was run once and stays as documentation."""
