"""The ring buffer in which a PLC notes what happens between two scans: how it is numbered, read and understood.

Nothing here knows a protocol: a driver brings an `access.Access` and the options of its own addresses.
"""
