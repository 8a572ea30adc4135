"""One reference network per file, named as its paper."""
