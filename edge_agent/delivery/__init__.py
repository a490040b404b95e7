"""From the outbox to the broker, in order, until confirmed."""
