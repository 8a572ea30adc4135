"""The loss gradient, and steepest ascent in each norm."""

import pytest
import torch
from torch import nn

from robustbench_med.attacks.gradient import case_loss, loss_gradient, on_support, steepest
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.threat import Ball, per_case_norm


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


UNBOUNDED = (-float("inf"), float("inf"))


def test_loss_and_gradient_of_a_regression_are_the_closed_form():
    network = nn.Linear(3, 2, bias=False)
    model = TorchModel(network, Task("regression", ("u", "v")), UNBOUNDED)
    image, target = torch.randn(4, 3), torch.randn(4, 2)
    batch = Batch(tuple("abcd"), image, target)
    loss, gradient = loss_gradient(model, batch, image)
    with torch.no_grad():
        residual = image @ network.weight.T - target
        torch.testing.assert_close(loss, residual.square().mean(dim=1))
        torch.testing.assert_close(gradient, residual @ network.weight)
    torch.testing.assert_close(case_loss(model, batch, image), loss)
    assert not loss.requires_grad
    assert network.weight.grad is None


def test_slopes_that_are_not_finite_can_be_stepped_along_and_spoil_no_other_case():
    class Root(nn.Module):
        def forward(self, image):
            return image.sqrt().flatten(start_dim=1)

    model = TorchModel(Root(), Task("regression", ("x", "y")), UNBOUNDED)
    image = torch.tensor([[[0.0, 1.0]], [[-1.0, 1.0]], [[4.0, 1.0]]])
    batch = Batch(("a", "b", "c"), image, torch.tensor([[-1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    _, gradient = loss_gradient(model, batch, image)
    assert gradient[0].tolist() == [[torch.finfo(torch.float32).max, 0.5]]  # endless slope at 0
    assert gradient[1].tolist() == [[0.0, 0.5]]  # no root, so NaN
    torch.testing.assert_close(gradient[2], torch.tensor([[0.5, 0.5]]))
    assert steepest(gradient, "l2")[0, 0].tolist() == pytest.approx([1.0, 0.0])


class Opaque:
    """A model that PyTorch cannot look into, as an ONNX session is."""

    task = Task("classification", ("a", "b"))
    bounds = (0.0, 1.0)

    def __call__(self, image, context=None):
        return image.detach().flatten(start_dim=1)[:, :2]


class Severed(nn.Module):
    """Its output requires a gradient, but through its weights only."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, image):
        return self.linear(image.detach().flatten(start_dim=1))


@pytest.mark.parametrize(
    "model", [Opaque(), TorchModel(Severed(), Opaque.task, (0.0, 1.0))], ids=["onnx", "detached"]
)
def test_a_model_without_gradients_is_refused_with_what_to_do(model):
    batch = Batch(("a",), torch.rand(1, 1, 2, 2), torch.tensor([0]))
    with pytest.raises(UnsupportedError, match=r"gives no gradients.*black-box attack \(square"):
        loss_gradient(model, batch, batch.image)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize(("norm", "dual"), [("linf", "l1"), ("l2", "l2"), ("l1", "linf")])
def test_the_steepest_direction_attains_the_dual_norm_at_length_1(norm, dual, scale):
    stream = torch.Generator().manual_seed(0)
    gradient = torch.randn(5, 2, 3, 4, generator=stream)
    direction = steepest(gradient * scale, norm)
    gain = (direction * gradient).flatten(start_dim=1).sum(dim=1)
    torch.testing.assert_close(per_case_norm(direction, norm).flatten(), torch.ones(5))
    torch.testing.assert_close(gain, per_case_norm(gradient, dual).flatten())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_flat_loss_gives_no_direction(norm):
    assert steepest(torch.zeros(2, 1, 3), norm).abs().max() == 0


def test_slopes_off_the_support_are_dropped():
    gradient = torch.ones(2, 2, 3)
    mask = torch.tensor([1, 0, 1]).view(1, 1, 3).expand(2, 1, 3)
    batch = Batch(("a", "b"), gradient, torch.zeros(2), {"mask": mask})
    kept = on_support(gradient, batch, Ball("l2", 1.0, support="mask"))
    assert torch.equal(kept, mask.expand(2, 2, 3).float())
    assert on_support(gradient, batch, Ball("l2", 1.0)) is gradient
