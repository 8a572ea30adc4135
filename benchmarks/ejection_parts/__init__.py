"""Parts of benchmarks/ejection_fraction.py."""
