"""The only rooms with threads, clocks, files, entry points and calls of ports."""
