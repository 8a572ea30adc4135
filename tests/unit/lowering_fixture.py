"""What the tests of written-out networks share: networks whose normalisations are not at rest."""

import torch
from torch import nn


def built(make, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make()
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return network.eval()
