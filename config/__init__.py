"""The typed configuration, the YAML loader and every configuration fault."""
