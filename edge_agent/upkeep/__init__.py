"""Keeping an agent in order: its health, what support needs, the move to another PC, the service of the system."""
