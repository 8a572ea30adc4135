"""What a proof is made of, and how its limits are derived again; NumPy only."""
