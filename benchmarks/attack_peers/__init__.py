"""Parts of benchmarks/attacks.py: what is compared, on what, and what came of it."""
