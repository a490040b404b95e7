"""Event types, envelope, codec and JSON Schemas: the wire contract."""
