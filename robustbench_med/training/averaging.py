"""Exponential moving average of a network's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """Average of the weights after each step, the recent ones weighing more.

    Bias-corrected: after t steps the weights of step i weigh `decay ** (t - i)`, over the sum of
    all those, so the initial weights are not in it, and after one step it is that step's weights.
    What is no floating-point number, such as a counter of batches, is the latest.

    Source: Kingma and Ba, ICLR 2015, section 3 (the correction) and 7.2 (of weights),
    arXiv:1412.6980.
    """

    def __init__(self, decay: float) -> None:
        """Begin with nothing seen."""
        self.decay = decay
        self.steps = 0
        self.weights: dict[str, Tensor] = {}

    def resume(self, weights: Mapping[str, Tensor], steps: int, device: torch.device) -> None:
        """Go on from the average over `steps` steps."""
        self.weights = {name: tensor.to(device) for name, tensor in weights.items()}
        self.steps = steps

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the weights that a step led to into the average."""
        self.steps += 1
        latest = network.state_dict()
        if self.steps == 1:
            self.weights = copied(latest)
            return
        own = [n for n, tensor in latest.items() if tensor.is_floating_point()]
        # The share of the newest: (1 - d) / (1 - d ** t); what is kept is one minus that.
        kept = 1 - (1 - self.decay) / (1 - self.decay**self.steps)
        average, current = [self.weights[n] for n in own], [latest[n] for n in own]
        get_ema_multi_avg_fn(kept)(average, current, self.steps)  # type: ignore[no-untyped-call]
        for name in latest.keys() - set(own):
            self.weights[name].copy_(latest[name])


def copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that further training does not change."""
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


@contextmanager
def standing_in(network: nn.Module, weights: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Lend other weights to the network, and put its own back after; None lends nothing."""
    if weights is None:
        yield
        return
    own = copied(network.state_dict())
    network.load_state_dict(weights)
    try:
        yield
    finally:
        network.load_state_dict(own)
