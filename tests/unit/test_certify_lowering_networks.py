"""Each network of the library is written out exactly, or refused by name."""

import collections

import pytest
import torch
from torch import nn

from robustbench_med.certify.lowering import lowered
from robustbench_med.errors import UnsupportedError
from robustbench_med.networks.acnn_seg import acnn_seg
from robustbench_med.networks.bai_fcn import bai_fcn
from robustbench_med.networks.deep_cascade import deep_cascade
from robustbench_med.networks.deepmedic import deepmedic
from robustbench_med.networks.fcn8s import fcn8s
from robustbench_med.networks.lenet import lenet
from robustbench_med.networks.mlp import mlp
from robustbench_med.networks.resnet import resnet
from robustbench_med.networks.subpixel import espcn
from robustbench_med.networks.tl_network import tl_network
from robustbench_med.networks.unet import unet

# The network, the shape of an image, and how many layers of ReLUs it is written with.
NETWORKS = {
    "lenet": (lambda: lenet(preset="small"), (1, 32, 32), 4),
    "mlp": (lambda: mlp(preset="small"), (10,), 2),
    "resnet": (lambda: resnet(preset="small", in_channels=1), (1, 16, 16), 13),
    "unet": (lambda: unet(preset="small"), (1, 16, 16), 20),
    "bai_fcn": (lambda: bai_fcn(preset="small"), (1, 16, 16), 14),
    "fcn8s": (lambda: fcn8s(preset="small", in_channels=1), (1, 32, 32), 20),
    "deepmedic": (lambda: deepmedic(preset="small"), (2, 1, 3, 3), 18),
    "espcn": (lambda: espcn(preset="small"), (1, 3, 4, 4), 2),
    "espcn, fixed": (lambda: espcn(preset="small").fixed(3), (1, 3, 4, 4), 2),
    "acnn_seg": (lambda: acnn_seg(preset="small"), (1, 16, 16), 11),
    "tl_network": (lambda: tl_network(preset="small", size=(32, 32)), (1, 32, 32), 17),
}  # fmt: skip


def built(make):
    """Weights that no layer starts at 0 with, and running statistics as after training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make()
        for parameter in network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_the_library_is_written_out(name):
    make, shape, relus = NETWORKS[name]
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    found = lowered(built(make), image)
    kinds = collections.Counter(node.kind for node in found.network.nodes)
    assert found.tolerance <= 1e-12
    assert kinds["relu"] == relus
    # Batch norms are gone; slopes below 0 are what is left of scales.
    assert kinds["scale"] == (2 * relus if name == "deepmedic" else 0)


@pytest.mark.parametrize(
    ("make", "shape", "complaint"),
    [(lambda: unet(preset="small", norm="group"), (1, 16, 16), "group_norm"),
     (lambda: Measured(deep_cascade(preset="small")), (2, 8, 8), "one fixed graph")],
)  # fmt: skip
def test_what_cannot_be_written_out_is_refused_by_name(make, shape, complaint):
    with pytest.raises(UnsupportedError, match=complaint):
        lowered(built(make), torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)))


class Measured(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        mask = torch.ones(1, 1, 8, 8).to(image)
        return self.network(image, {"mask": mask})
