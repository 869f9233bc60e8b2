"""Adapt to the versions of our dependencies, and to our own last version."""
