"""Readings in: one folder per protocol."""
