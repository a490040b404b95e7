"""The simulated line and the loopback broker."""
