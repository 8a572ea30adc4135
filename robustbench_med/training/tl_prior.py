"""A trained T-L network that judges what another network answers; it does not learn."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from robustbench_med.cases import Task
from robustbench_med.errors import InputError
from robustbench_med.networks.tl_network import TlNetwork
from robustbench_med.training.card import read_card
from robustbench_med.training.network import build_seeded, card_settings
from robustbench_med.training.tl_stages import squared_distance
from robustbench_med.training.weights import file_sha256, fill, read_weights


def tl_prior(weights: str, device: torch.device) -> tuple[TlNetwork, Task]:
    """Return the T-L network in a file of weights, frozen, and the task it was trained for.

    Its weights get no gradients and it stays in evaluation mode; gradients go through it to what
    it is asked about. Read once, unless the file changes.

    Raises:
        InputError: If the file is missing or altered, or not, by its model card, a T-L network.
    """
    path = Path(weights)
    if not path.is_file():
        raise InputError(
            f"weights {path}: not there; train a tl_network first, as in examples/systems"
        )
    status = path.stat()
    return _read(path, str(device), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, device: str, *_version: int) -> tuple[TlNetwork, Task]:
    card = read_card(path)
    if card is None or card.network != "tl_network":
        found = "none" if card is None else f"one of {card.network!r}"
        raise InputError(
            f"weights {path}: expected a model card of tl_network beside them, got {found}"
        )
    if card.weights_sha256 != file_sha256(path):
        raise InputError(f"weights {path}: altered since its model card was written")
    network = build_seeded("tl_network", card_settings(card), seed=0)
    fill(network, read_weights(path), path)
    if not isinstance(network, TlNetwork):
        raise InputError(f"weights {path}: expected a T-L network, got {type(network).__name__}")
    return network.to(device).eval().requires_grad_(requires_grad=False), card.task


def code_distance(code: Callable[[Tensor], Tensor], output: Tensor, truth: Tensor) -> Tensor:
    """Squared distance of the codes of `output` from those of `truth`, mean over slices, `(b,)`.

    Gradients reach `output`, not `truth`.

    Args:
        code: Maps slices `(n, c, h, w)` to codes, `(n, length)`.
        output: `(b, c, *s, h, w)`.
        truth: Likewise.
    """
    with torch.no_grad():
        aim = code(_slices(truth))
    far = squared_distance(code(_slices(output)), aim)
    return far.reshape(len(output), -1).mean(dim=1)


def middle(loss: str, maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cut the middle `grid` out of maps `(b, c, *s, h, w)`.

    Raises:
        InputError: If the maps are smaller.
    """
    height, width = maps.shape[-2:]
    if height < grid[0] or width < grid[1]:
        raise InputError(
            f"{loss}: its T-L network looks at {grid[0]} x {grid[1]} pixels, the answer has "
            f"{height} x {width}; train one at this size"
        )
    top, left = (height - grid[0]) // 2, (width - grid[1]) // 2
    return maps[..., top : top + grid[0], left : left + grid[1]]


def _slices(maps: Tensor) -> Tensor:
    """Every slice of every case as a case: `(b, c, *s, h, w)` to `(n, c, h, w)`."""
    return maps.movedim(1, -3).flatten(0, -4)
