"""Parts of benchmarks/soundness.py: what is bounded, with what, and where limits are looked at."""
