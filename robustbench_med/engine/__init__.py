"""Every probe on every case: what is left to do, doing it, keeping it."""
