"""One table of everything that a configuration names: tags, units, codes with their meaning, event fields."""
