"""One reader of cases per format."""
