"""A network as one fixed function of its image: what it takes from the case's context put in."""

import copy
import inspect

from torch import nn

from robustbench_med.cases import Batch
from robustbench_med.certify.operators import without_dropout
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.model import Model, TorchModel


def fixed_form(model: Model, one: Batch) -> nn.Module:
    """Write a model's network for one case, in float64 and evaluation mode; it is left as it was.

    A network with a method `fixed` is asked for its fixed form: for the case's `mask`, or for the
    number of its slices. One that takes no context is that form itself.

    Args:
        model: With a torch network.
        one: The case alone.

    Returns:
        Maps `(1, c, *s)` to images, without context.

    Raises:
        UnsupportedError: If the model has no such form for that case.
        CaseError: If its context lacks the mask.
    """
    if not isinstance(model, TorchModel):
        raise UnsupportedError(f"certify: needs a torch network, got a {type(model).__name__}")
    network = without_dropout(copy.deepcopy(model.network)).cpu().double().eval()
    network.requires_grad_(requires_grad=False)
    fixed = getattr(network, "fixed", None)
    if fixed is None:
        if "context" in inspect.signature(network.forward).parameters:
            raise UnsupportedError(
                "certify: a network that takes context cannot be bounded, but by a method "
                f"fixed(mask), which {type(network).__name__} has not"
            )
        return network
    takes = next(iter(inspect.signature(fixed).parameters), "")
    try:
        form = _asked(fixed, takes, network, one)
    except InputError as error:
        raise UnsupportedError(f"certify: {error}") from error
    if not isinstance(form, nn.Module):
        raise UnsupportedError(f"certify: fixed must return a torch module, got {type(form)}")
    return form.double().eval().requires_grad_(requires_grad=False)


def _asked(fixed: object, takes: str, network: nn.Module, one: Batch) -> object:
    if not callable(fixed) or takes not in ("mask", "slices"):
        raise UnsupportedError(
            f"certify: {type(network).__name__} has a fixed form by {takes or 'nothing'!r}; known "
            "are mask and slices"
        )
    shape = tuple(one.image.shape)
    if takes == "slices":
        if len(shape) != 5:
            raise UnsupportedError(f"certify: needs stacks (1, c, z, y, x), got {shape}")
        return fixed(shape[2])
    if len(shape) != 4 or shape[1] != 2:
        raise UnsupportedError(
            f"certify: a fixed form is for k-space of one coil and one frame, (1, 2, h, w), got "
            f"{shape}"
        )
    if "mask" not in one.context:
        held = ", ".join(one.context) or "nothing"
        raise CaseError(f"certify: needs 'mask' in the case's context, which has {held}")
    mask = one.context["mask"][0].detach().cpu()
    if mask.shape != (1, *shape[2:]) or not bool(((mask == 0) | (mask == 1)).all()):
        raise CaseError(
            f"certify: expected a mask {(1, *shape[2:])} of 0 and 1, got {tuple(mask.shape)}"
        )
    return fixed(mask)
