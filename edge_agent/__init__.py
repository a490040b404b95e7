"""The agent: machines, events, delivery, CLI."""
