"""Tags in, events out: pure parts without clock, I/O or logging."""
