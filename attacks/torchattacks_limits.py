"""What torchattacks 3.5.1 gets wrong in silence or crashes on, so that it is refused instead.

Each limit was measured on that version, with a network and inputs that show it.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from robustbench_med.components import suggest
from robustbench_med.errors import InputError, UnknownNameError, UnsupportedError
from robustbench_med.model import Model
from robustbench_med.threat import Ball, Norm

Settings = Mapping[str, object]

NORMS: Mapping[str, tuple[Norm, ...]] = {
    **dict.fromkeys(["FGSM", "BIM", "RFGSM", "FFGSM", "MIFGSM", "NIFGSM", "SINIFGSM"], ("linf",)),
    **dict.fromkeys(["VMIFGSM", "VNIFGSM", "DIFGSM", "TIFGSM", "PIFGSM", "PIFGSMPP"], ("linf",)),
    **dict.fromkeys(["PGD", "EOTPGD", "TPGD", "UPGD", "PGDRS", "Jitter", "SPSA"], ("linf",)),
    **dict.fromkeys(["APGD", "APGDT", "FAB", "Square"], ("linf", "l2")),
    **dict.fromkeys(["PGDL2", "PGDRSL2", "CW", "DeepFool", "EADEN"], ("l2",)),
    "EADL1": ("l1",),
}
"""Norms of the balls that each class searches; the last four look for the nearest failure."""

_TEN_STEPS = "its standard version runs 10 steps where the reference runs 100"
_L0 = "it counts changed voxels (l0), which no ball here does"
REFUSED: Mapping[str, str] = {
    "AutoAttack": f"{_TEN_STEPS}; use its parts APGD, APGDT, FAB and Square",
    **dict.fromkeys(["SparseFool", "OnePixel", "Pixle", "JSMA"], _L0),
    **dict.fromkeys(["VANILA", "GN"], "it does not search for the worst image"),
    **dict.fromkeys(["MultiAttack", "LGV"], "it wraps other attacks; name those"),
}
_FROM_THE_BALL = ("eps", "max_epsilon", "norm")
_FROM_THE_RUN = ("model", "seed", "n_classes", "verbose")


def check_name(name: str) -> None:
    """Refuse classes that cannot be used at all.

    Raises:
        UnknownNameError: If torchattacks has no such attack.
        UnsupportedError: If the attack is known not to do what its name says.
    """
    if name in REFUSED:
        raise UnsupportedError(f"torchattacks: {name} is refused: {REFUSED[name]}")
    if name not in NORMS:
        raise UnknownNameError(f"torchattacks: no {name!r}; {suggest(name, sorted(NORMS))}")


def check_settings(name: str, settings: Settings, parameters: Mapping[str, object]) -> None:
    """Refuse settings that the class, whose `parameters` these are, does not take.

    Raises:
        InputError: If a setting is unknown, or comes from elsewhere.
        UnsupportedError: If the class is known to crash with it.
    """
    free = [one for one in parameters if one not in _FROM_THE_BALL + _FROM_THE_RUN]
    for key in settings:
        if key in _FROM_THE_BALL:
            raise InputError(f"torchattacks: {name}: {key} comes from the ball, not the settings")
        if key in _FROM_THE_RUN:
            raise InputError(f"torchattacks: {name}: {key} comes from the run, not the settings")
        if key not in free:
            raise InputError(f"torchattacks: {name} has no setting {key!r}; {suggest(key, free)}")
    if name in ("EADL1", "EADEN") and _number(settings.get("max_iterations", 100)) < 20:
        raise UnsupportedError(f"torchattacks: {name} divides by zero below 20 max_iterations")


def check_request(name: str, settings: Settings, model: Model, image: Tensor, ball: Ball) -> None:
    """Refuse a task, an image or a ball that the attack would silently get wrong.

    Raises:
        UnsupportedError: Saying which, and what the attack can do.
    """
    problems = [*_task(name, settings, model), *_ball(name, ball), *_image(name, image, ball.norm)]
    if problems:
        raise UnsupportedError(f"torchattacks: {name}: {'; '.join(problems)}")


def _task(name: str, settings: Settings, model: Model) -> Iterator[str]:
    if model.task.kind != "classification":
        yield f"it raises a classification loss whatever the task; got {model.task.kind}"
    least = 4 if name == "APGDT" else 3 if settings.get("loss") == "dlr" else 2
    if model.task.kind == "classification" and len(model.task.classes) < least:
        yield f"its loss needs at least {least} classes, got {len(model.task.classes)}"


def _ball(name: str, ball: Ball) -> Iterator[str]:
    if ball.norm not in NORMS[name]:
        yield f"it searches {' and '.join(NORMS[name])} balls, got {ball.norm}"
    if ball.bounds != (0.0, 1.0):
        yield f"it clips every image to [0, 1], got bounds {ball.bounds}"
    if ball.unit != "intensity":
        yield f"it takes one eps for all cases, in intensity, got the unit {ball.unit!r}"
    if ball.support is not None:
        yield f"it changes every voxel, got a ball that is limited to {ball.support!r}"


def _image(name: str, image: Tensor, norm: Norm) -> Iterator[str]:
    if image.ndim != 4:
        yield f"it handles images (c, y, x), got {tuple(image.shape[1:])}"
    if name in ("TIFGSM", "PIFGSM", "PIFGSMPP") and image.shape[1] != 3:
        yield f"its kernels are fixed at 3 channels, got {image.shape[1]}"
    if name in ("TIFGSM", "DIFGSM") and image.shape[-2] != image.shape[-1]:
        yield f"it makes every image square, got {tuple(image.shape[2:])}"
    if (name, norm) == ("Square", "l2") and not image.shape[-1] == image.shape[-2] >= 25:
        yield f"its tiles need a square of 25 voxels or more, got {tuple(image.shape[2:])}"
    if name == "FAB" and image.dtype == torch.float64:
        yield "it mixes float32 into a float64 search"


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"torchattacks: max_iterations must be a number, got {value!r}")
    return value
