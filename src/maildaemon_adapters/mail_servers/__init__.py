"""Mail servers that are spoken to over a line of ours: what is set for each of them, and what it means not to get in.

Shared by the adapters for IMAP and POP3; it knows neither protocol.
"""
