"""What the MOM may ask: read, decide, carry out, answer (event model §6)."""
