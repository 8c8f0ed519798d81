"""Datasets: class lists, image lists, and the way from a file to pixels."""
