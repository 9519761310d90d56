"""The command `skyline`, with one file per subcommand."""
