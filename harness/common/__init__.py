"""What every package stands on: errors, files, hashes, the machine, processes of their own."""
