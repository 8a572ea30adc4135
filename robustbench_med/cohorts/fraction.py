"""A patient's own number, from which splits are drawn."""

import hashlib


def fraction(seed: int, patient_id: str) -> float:
    """Return a number in [0, 1) that depends on these two alone, never on other patients."""
    digest = hashlib.sha256(f"{seed}\x1f{patient_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
