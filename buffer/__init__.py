"""Bytes out, durably: the outbox, the only queue of the agent."""
