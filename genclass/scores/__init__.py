"""The score file: write, read, merge, check."""
