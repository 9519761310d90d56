"""The command `skyline`: one file a command."""
