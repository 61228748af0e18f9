"""What talks to the world: mail sources, destinations and stores, each in a room of its own.

Nothing is imported here.  The engine finds the adapters by name through entry points, one when it is needed, the same
way as those of any other distribution.
"""
