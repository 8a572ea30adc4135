"""Small cohorts and networks that the tests of training share."""

import torch
from torch import nn

from robustbench_med.cases import Case, Cohort, Task
from robustbench_med.networks.lenet import lenet


def classes_cohort(count=8, size=16, seed=0, classes=("a", "b"), name="toy"):
    draw = torch.Generator().manual_seed(seed)
    cases = [
        Case(f"c{i}", f"p{i}", torch.rand(1, size, size, generator=draw), torch.tensor(i % 2))
        for i in range(count)
    ]
    return Cohort(name, Task("classification", classes), (0, 1), cases)


def masks_cohort(count=4, size=8):
    draw = torch.Generator().manual_seed(1)
    images = [torch.rand(1, size, size, generator=draw) for _ in range(count)]
    cases = [Case(f"c{i}", f"p{i}", x, (x[0] > 0.5).long()) for i, x in enumerate(images)]
    return Cohort("masks", Task("segmentation", ("background", "lesion")), (0, 1), cases)


class Dropping(nn.Module):
    """Draws from the global random state in training mode."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, 2))

    def forward(self, image):
        return self.layers(image)


def built(builder, seed=0, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return builder(**settings)


def small_lenet():
    return built(lenet, preset="small", classes=2, size=(16, 16))


def weights_of(network):
    return torch.cat([tensor.flatten().double() for tensor in network.state_dict().values()])


class StopAfterError(Exception):
    pass


def stop_after(epoch, error=StopAfterError):
    def on_epoch(row):
        if row["epoch"] == epoch:
            raise error

    return on_epoch
