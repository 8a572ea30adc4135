"""What a test split shares with the split that a model learnt from, and how it differs."""
