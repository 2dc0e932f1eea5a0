"""How a command line becomes a config: files, grammar, names, layers with provenance, the rack, and texts for people."""
