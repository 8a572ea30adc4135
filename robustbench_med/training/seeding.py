"""Random numbers of an epoch, drawn anew from its number: a checkpoint needs no random state."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def order_of(seed: int, epoch: int, cases: int) -> list[int]:
    """Order in which the cases are learned from."""
    generator = torch.Generator().manual_seed(_number(seed, epoch, "order"))
    return torch.randperm(cases, generator=generator).tolist()


@contextmanager
def seeded(seed: int, epoch: int, device: torch.device, process: int = 0) -> Iterator[None]:
    """Seed what a network draws itself (dropout), and put the global state back after."""
    devices = list(range(torch.cuda.device_count())) if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        number = _number(seed, epoch, f"network/{process}" if process else "network")
        torch.default_generator.manual_seed(number)
        if devices:
            torch.cuda.manual_seed_all(number)
        yield


def _number(seed: int, epoch: int, what: str) -> int:
    key = f"{seed}/{epoch}/{what}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "little") >> 1
