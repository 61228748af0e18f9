"""Adapters for maildaemon by somebody else: mail in and out of SQLite databases."""
