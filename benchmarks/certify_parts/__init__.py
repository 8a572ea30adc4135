"""Parts of benchmarks/certify.py."""
