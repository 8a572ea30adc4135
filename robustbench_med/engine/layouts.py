"""Whether another memory layout, bfloat16 or a compiler would make attacks faster on this machine.

Nothing here is switched on by itself: what gains on one machine loses on another.
"""

import copy
import os
import shutil
import time
from dataclasses import dataclass
from functools import partial
from typing import Literal, assert_never, get_args

import numpy as np
import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.engine.reread import Reread
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import Context, Model, TorchModel

Name = Literal["channels_last", "bf16", "compiled"]
NAMES: tuple[Name, ...] = get_args(Name)
WORTH_IT = 0.9  # less of a gain is not told from noise, and is not worth another code path
# Largest difference of the answers and lowest cosine of the slopes; bf16 has 8 bits.
ROUNDING = {"channels_last": (1e-3, 0.99), "compiled": (1e-3, 0.99), "bf16": (5e-2, 0.9)}
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Tried:
    """What one layout is worth.

    Attributes:
        name: "channels_last", "bf16" or "compiled".
        ratio: Seconds of a forward and backward pass relative to plain, median; NaN untried.
        difference: Largest difference of the answers, relative to the largest plain one.
        slope: Lowest cosine, over the cases, of its gradient in the image with the plain one.
        why_not: Why it could not be tried; empty if it was.
    """

    name: Name
    ratio: float
    difference: float
    slope: float
    why_not: str = ""

    @property
    def agrees(self) -> bool:
        """Whether answers and slopes are those of the plain model, to the precision's rounding."""
        most, least = ROUNDING[self.name]
        return self.difference <= most and self.slope >= least

    @property
    def gains(self) -> bool:
        """Whether it saves a tenth or more and agrees."""
        return self.agrees and self.ratio <= WORTH_IT


@dataclass(frozen=True)
class Layouts:
    """What `layouts` found on one machine.

    Attributes:
        device: That it ran on.
        seconds: Of a plain forward and backward pass of the batch, median.
        tried: One entry per layout.
    """

    device: str
    seconds: float
    tried: tuple[Tried, ...]

    @property
    def best(self) -> Name | None:
        """The fastest of those that gain; None if the plain model is to be kept."""
        gaining = [one for one in self.tried if one.gains]
        return min(gaining, key=lambda one: one.ratio).name if gaining else None


def layouts(
    model: TorchModel, batch: Batch, *, repeats: int = 7, names: tuple[Name, ...] = NAMES
) -> Layouts:
    """Time a forward and backward pass of `batch` in each layout, in turns with the plain one.

    The model is left as it is: layouts are tried on copies.

    Args:
        model: On the device, and in the precision, that it is attacked in.
        batch: Of the size that an attack would have, on the same device.
        repeats: Of each, at least 3; a first pass of each is not counted.
        names: What to try.

    Raises:
        InputError: If `repeats` is less than 3.
    """
    if repeats < 3:
        raise InputError(f"layouts: repeats must be at least 3, got {repeats}")
    plain = _copied(model)
    answer, slope = _pass(plain, batch)
    tried, all_seconds = [], []
    for name in names:
        try:
            other = laid_out(model, name, batch.image.ndim)
            seen = _pass(other, batch)
        except (UnsupportedError, RuntimeError) as error:  # compilers raise kinds of RuntimeError
            reason = str(error).strip().splitlines()[0][:200]
            tried.append(Tried(name, torch.nan, torch.nan, torch.nan, reason))
            continue
        pairs = [(_seconds(plain, batch), _seconds(other, batch)) for _ in range(repeats)]
        ratio = float(np.median([there / here for here, there in pairs]))
        all_seconds += [here for here, _ in pairs]
        difference = (seen[0] - answer).abs().max() / answer.abs().max()
        cosine = torch.cosine_similarity(seen[1].flatten(1), slope.flatten(1)).min()
        tried.append(Tried(name, ratio, float(difference), float(cosine)))
    if not all_seconds:
        all_seconds = [_seconds(plain, batch) for _ in range(repeats)]
    return Layouts(_device(batch), float(np.median(all_seconds)), tuple(tried))


def laid_out(model: TorchModel, name: Name, axes: int = 4) -> Reread:
    """Copy a model into a layout, for a search: `Transfer(laid_out(model, name), inner)`.

    What the search finds is scored by the model itself. Answers have the image's own type.

    Args:
        model: Left as it is.
        name: The layout.
        axes: Of its batches of images: 4 for `(b, c, h, w)`, 5 for volumes.

    Raises:
        UnsupportedError: If the images are neither, or no compiler is there.
    """
    copied = _copied(model)
    match name:
        case "channels_last":
            if axes not in FORMATS:
                raise UnsupportedError(
                    f"channels_last: needs images (b, c, h, w) or volumes, got {axes} axes"
                )
            copied.network.to(memory_format=FORMATS[axes])  # type: ignore[call-overload]
        case "bf16":
            pass
        case "compiled":
            if not shutil.which(os.environ.get("CXX", "c++")):
                raise UnsupportedError("compiled: no C++ compiler is installed")
            copied.network.compile()
        case _:
            assert_never(name)
    return Reread(copied, partial(_answer, name))


def _answer(name: Name, model: Model, image: Tensor, context: Context) -> Tensor:
    if name == "channels_last":
        image = image.contiguous(memory_format=FORMATS[image.ndim])
    with torch.autocast(image.device.type, torch.bfloat16, enabled=name == "bf16"):
        output = model(image, context)
    return output.to(image.dtype)


def _copied(model: TorchModel) -> TorchModel:
    network = copy.deepcopy(model.network).requires_grad_(requires_grad=False)
    return TorchModel(network, model.task, model.bounds)


def _pass(model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
    """Answers and gradients of the loss in the image, from one forward and backward pass."""
    image = batch.image.detach().requires_grad_()
    with torch.enable_grad():
        output = model(image, batch.context)
        loss = model.task.loss(output, batch.target).sum()
        (slope,) = torch.autograd.grad(loss, image)
    return output.detach().double(), slope.double()


def _seconds(model: Model, batch: Batch) -> float:
    _wait(batch)
    started = time.perf_counter()
    _pass(model, batch)
    _wait(batch)
    return time.perf_counter() - started


def _wait(batch: Batch) -> None:
    if batch.image.is_cuda:
        torch.cuda.synchronize(batch.image.device)


def _device(batch: Batch) -> str:
    if batch.image.is_cuda:
        return torch.cuda.get_device_name(batch.image.device)
    return f"CPU, {torch.get_num_threads()} threads"
