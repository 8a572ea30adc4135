"""The training loop, and one defence per file."""
