"""What the tests of several networks share: a tiny cohort, settled statistics, weights' counts."""

import functools

import torch
from torch import nn

from robustbench_med.components import build
from robustbench_med.training.loop import train
from robustbench_med.training.settings import TrainSettings

NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@functools.cache
def hearts():
    """Four simulated slices of one patient, 32 x 32, four classes."""
    return build("cohorts", "synthetic_cine", patients=1, slices=2, size=32, pixel_mm=4.5)


def learns(builder, folder, cohort=None, **settings):
    """Train a network for two epochs; its first and its last loss."""
    cohort = cohort or hearts()
    channels, classes = len(cohort.cases[0].image), len(cohort.task.classes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = builder(preset="small", in_channels=channels, classes=classes, **settings)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    curve = train(network, cohort, TrainSettings(epochs=2, batch_size=2), folder=folder)
    moved = [
        name for name, tensor in network.state_dict().items() if (tensor != before[name]).any()
    ]
    assert set(moved) >= {name for name, _ in network.named_parameters()}
    return curve[0]["loss"], curve[-1]["loss"]


def settled(network, seed=0):
    """The network in evaluation mode, with statistics, scales and shifts that are not 0 and 1."""
    stream = torch.Generator().manual_seed(seed)

    def drawn(like, low, high):
        return low + (high - low) * torch.rand(like.shape, generator=stream)

    for module in network.modules():
        if isinstance(module, NORMS):
            module.running_mean.copy_(drawn(module.running_mean, -0.3, 0.3))
            module.running_var.copy_(drawn(module.running_var, 0.5, 1.5))
            module.weight.data.copy_(drawn(module.weight, 0.5, 1.5))
            module.bias.data.copy_(drawn(module.bias, -0.3, 0.3))
    return network.eval()


def normed(state, name, maps):
    """Batch normalisation in evaluation, written out; maps `(b, c, *s)`."""
    mean, var, scale, shift = (
        state[f"{name}.{part}"].reshape(-1, *[1] * (maps.ndim - 2))
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (maps - mean) / (var + 1e-5).sqrt() * scale + shift
