"""The local socket through which the CLI talks to the running agent; see `protocol` for what is said."""
