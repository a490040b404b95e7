"""Timelines through the rules: test, replay."""
