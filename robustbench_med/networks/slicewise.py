"""A network of single images, applied to every slice of every phase."""

from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.components import build
from robustbench_med.errors import InputError

TASK = "segmentation of whole patients"
BOUNDED_BY = "ibp"


def slicewise(
    *,
    network: str = "unet",
    preset: str = "small",
    in_channels: int = 1,
    classes: int = 4,
    **settings: object,
) -> "SliceWise":
    """Build what maps a whole patient `(b, c, p, z, y, x)` to logits `(b, k, p, z, y, x)`.

    It has the weights of the inner network under the inner network's names, so what was trained
    on single slices is used as it is.

    Args:
        network: Name of a segmentation network `(b, c, h, w)` to `(b, k, h, w)`.
        preset: Of that network.
        in_channels: Channels of the image.
        classes: Channels of the output.
        **settings: What else that network is built with.

    Raises:
        UnknownNameError: If no network has that name.
        InputError: If the network does not take these settings.
    """
    inner = build(
        "networks", network, preset=preset, in_channels=in_channels, classes=classes, **settings
    )
    if not isinstance(inner, nn.Module):
        raise InputError(f"slicewise: expected {network!r} to be a torch module, got {inner!r}")
    return SliceWise(inner)


class SliceWise(nn.Module):
    """See `slicewise`, which builds it; `inner` maps `(b, c, h, w)` to `(b, k, h, w)`."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_state_dict_post_hook(_rename_to_inner)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_rename_from_inner)  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor) -> Tensor:
        """Map `(b, c, *s, y, x)` to `(b, k, *s, y, x)`; `*s` is phase and slice.

        Raises:
            InputError: If there is nothing to slice, or the inner network does not segment.
        """
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and image.ndim < 5:
            raise InputError(
                f"slicewise: expected whole patients (b, c, p, z, y, x), got {tuple(image.shape)}; "
                "for single slices use the inner network itself"
            )
        slices = image.movedim(1, -3)
        logits: Tensor = self.inner(slices.flatten(0, -4))
        if not tracing and (logits.ndim != 4 or logits.shape[-2:] != image.shape[-2:]):
            raise InputError(
                "slicewise: expected the inner network to answer (b, k, h, w) on the image's grid, "
                f"got {tuple(logits.shape)} for {tuple(image.shape[-2:])}; name one that segments"
            )
        return logits.reshape(*slices.shape[:-3], *logits.shape[1:]).movedim(-3, 1)


def _rename_to_inner(_: nn.Module, state: dict[str, Any], prefix: str, *_rest: object) -> None:
    """Leave the `inner.` out of the names of the weights, in place."""
    long = f"{prefix}inner."
    renamed = {
        prefix + name.removeprefix(long): state.pop(name)
        for name in [name for name in state if name.startswith(long)]
    }
    state.update(renamed)


def _rename_from_inner(_: nn.Module, state: dict[str, Any], prefix: str, *_rest: object) -> None:
    """Put it back before the weights are read, in place."""
    renamed = {
        f"{prefix}inner.{name.removeprefix(prefix)}": state.pop(name)
        for name in [name for name in state if name.startswith(prefix)]
    }
    state.update(renamed)
