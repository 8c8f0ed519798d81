"""The spec of a cell: exactly what changes its numbers, and what changed in it."""
