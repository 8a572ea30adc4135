"""One physics of degradation per file."""
