"""One random stream per case, so that a value never depends on the batch it was computed in."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class CaseRng:
    """Draws for a batch, each case from its own stream.

    A stream is fixed by seed, name and case id. Draws are made on the CPU and moved, so
    every device sees the same numbers. Successive calls continue the streams.

    Attributes:
        seed: Of the run.
        name: What draws: usually the probe's name.
        case_ids: Cases of the batch, in its order.
    """

    seed: int
    name: str
    case_ids: Sequence[str]
    _streams: tuple[torch.Generator, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        streams = tuple(self._stream(case_id) for case_id in self.case_ids)
        object.__setattr__(self, "_streams", streams)

    def _stream(self, case_id: str) -> torch.Generator:
        key = f"{self.seed}\x1f{self.name}\x1f{case_id}".encode()
        seed = int.from_bytes(hashlib.sha256(key).digest()[:8], "little") >> 1
        return torch.Generator().manual_seed(seed)

    def child(self, name: str) -> "CaseRng":
        """Streams of the same cases that are independent of these, under a longer name."""
        return CaseRng(self.seed, f"{self.name}/{name}", self.case_ids)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on [0, 1), `(b, *shape)`, float32, on the CPU."""
        return torch.stack([torch.rand(shape, generator=s) for s in self._streams])

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, `(b, *shape)`, float32, on the CPU."""
        return torch.stack([torch.randn(shape, generator=s) for s in self._streams])

    def uniform_like(self, image: Tensor) -> Tensor:
        """Uniform on [-1, 1), shaped and placed as `image` `(b, c, *s)`."""
        return (2 * self.uniform(*image.shape[1:]) - 1).to(image)

    def normal_like(self, image: Tensor) -> Tensor:
        """Standard normal, shaped and placed as `image` `(b, c, *s)`."""
        return self.normal(*image.shape[1:]).to(image)
