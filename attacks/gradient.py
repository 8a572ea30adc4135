"""What every gradient attack needs: the loss, its slope in the image, and the way up."""

from typing import assert_never

import torch
from torch import Tensor

from robustbench_med.attacks.objective import Objective, TaskLoss
from robustbench_med.cases import Batch
from robustbench_med.errors import UnsupportedError
from robustbench_med.model import Model
from robustbench_med.threat import Ball, Norm, per_case_norm

TASK_LOSS = TaskLoss()


def loss_gradient(
    model: Model, batch: Batch, image: Tensor, objective: Objective = TASK_LOSS
) -> tuple[Tensor, Tensor]:
    """Objective of each case at `image`, and its gradient in its own image, from one forward pass.

    Parameters collect no gradient. A slope that is NaN counts as 0, so that its voxel stays where
    it is, and an infinite one as the largest finite number.

    Args:
        model: Any model that PyTorch can differentiate.
        batch: Targets and context; its own images are not used.
        image: `(b, c, *s)`, where to evaluate.
        objective: What to raise.

    Returns:
        Objective `(b,)` and gradient `(b, c, *s)`, both detached.

    Raises:
        UnsupportedError: If the output does not depend on the image in PyTorch's graph.
    """
    _, loss, gradient = answer_gradient(model, batch, image, objective)
    return loss, gradient


def answer_gradient(
    model: Model, batch: Batch, image: Tensor, objective: Objective = TASK_LOSS
) -> tuple[Tensor, Tensor, Tensor]:
    """Model's answer at `image`, objective and gradient, all detached; as `loss_gradient` does.

    For a search that climbs one objective and keeps what is worst by another.
    """
    image = image.detach().requires_grad_()
    gradient = None
    with torch.enable_grad():
        output = model(image, batch.context)
        loss = objective(output, batch, model.task)
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss.sum(), image, allow_unused=True)
    if gradient is None:
        raise UnsupportedError(
            f"attack: {type(model).__name__} gives no gradients of its output in the image "
            "(an ONNX model, or a detach inside); use a black-box attack (square, or autoattack, "
            "which falls back to it) or shifts"
        )
    return output.detach(), loss.detach(), gradient.nan_to_num_()


def gives_gradients(model: Model, batch: Batch) -> bool:
    """Whether the answer to the first case depends on its image in PyTorch's graph."""
    if not len(batch):
        return True
    case = batch[0]
    image = case.image.detach().requires_grad_()
    with torch.enable_grad():
        output = model(image, case.context)
        if not output.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(output.sum(), image, allow_unused=True)
    return gradient is not None


@torch.no_grad()
def case_loss(
    model: Model, batch: Batch, image: Tensor, objective: Objective = TASK_LOSS
) -> Tensor:
    """Objective of each case at `image`, `(b,)`, without a gradient."""
    return objective(model(image, batch.context), batch, model.task)


def on_support(gradient: Tensor, batch: Batch, ball: Ball) -> Tensor:
    """Gradient with zeros where `ball` lets nothing change, so that no step is spent there."""
    if ball.support is None:
        return gradient
    return gradient.where(batch.context[ball.support].to(gradient) != 0, 0)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Direction of length 1 in `norm` along which the loss grows fastest, zeros where flat.

    Under l1 it is a single voxel of each case: the one with the largest slope.
    """
    if norm == "linf":
        return gradient.sign()
    # Squares of slopes below 1e-19 underflow in float32, so the largest is made 1 first.
    scaled = gradient / _largest(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)
    if norm == "l2":
        return scaled / per_case_norm(scaled, "l2").clamp(min=0.5)
    if norm == "l1":
        flat = scaled.flatten(start_dim=1)
        top = flat.abs().argmax(dim=1, keepdim=True)
        return torch.zeros_like(flat).scatter(1, top, flat.gather(1, top).sign()).view_as(gradient)
    assert_never(norm)


def per_case(values: Tensor, image: Tensor) -> Tensor:
    """Values `(b,)` as `(b, 1, *1)`, to broadcast over `image`."""
    return values.view(-1, *[1] * (image.ndim - 1))


def _largest(gradient: Tensor) -> Tensor:
    """Largest size of a slope in each case, `(b, 1, *1)`; NaN where one is NaN."""
    # Nine times as fast as the linf vector norm on a CPU.
    return per_case(gradient.flatten(start_dim=1).abs().amax(dim=1), gradient)
