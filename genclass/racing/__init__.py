"""Races: classes that are significantly behind are left out on the way."""
