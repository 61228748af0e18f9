"""Stores of objects, which have no folders and rename nothing: what those of all vendors have in common."""
