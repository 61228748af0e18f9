"""A store of each released version, as text, and the history that each of them has seen."""
