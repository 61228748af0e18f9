"""Connections with servers of any kind: made, trusted, waited for, and told of when they come to nothing.

Shared by all adapters that speak with a server over a socket of ours; it knows no protocol.
"""
