"""One idea of agreement per file."""
