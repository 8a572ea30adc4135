"""How wide certified ranges of outputs are, next to what gradient search reaches of them."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from certify_parts.clock import peak_mib, timed
from certify_parts.drawn import discs_and_rings
from certify_parts.trained import BOUNDS, FCN_SIZE, UNET_SIZE, cascade, fcn, strided_unet
from robustbench_med.certify.ladder import Effort, Rows, Rung, climb
from robustbench_med.certify.lowering import lowered
from robustbench_med.model import TorchModel
from robustbench_med.models import load_model
from robustbench_med.plan import load_plan
from robustbench_med.proofs.network import Network
from robustbench_med.proofs.proof import InputSet
from robustbench_med.questions import build_cohort

SYSTEMS = Path(__file__).parents[2] / "examples" / "systems"
EPS, MEASURES_EPS, KSPACE_SHARE = 1 / 255, 0.01, 0.005
# Both signs of so many are as many rows as the ladder bounds without a taste of some first, after
# which it would leave a rung out that decides none.
OUTPUTS, STEPS = 64, 40
NEVER = 1e9  # above any limit, so that slopes are sought for every row
METHODS: dict[str, Rung] = {
    "ibp": "ibp", "crown_ibp": "crown_ibp", "crown": "crown", "alpha": "alpha_crown",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """Some outputs of a network over a box.

    Attributes:
        network: In evaluation mode.
        low: `(1, c, *s)`.
        high: The same.
        outputs: `(r,)`, of the flattened outputs.
        about: What the set is, in words.
    """

    network: nn.Module
    low: Tensor
    high: Tensor
    outputs: np.ndarray
    about: str


def asked(name: str, folder: Path, *, quick: bool) -> Asked:
    """What is asked of a network: of many outputs some at random, the same every time."""
    makers: dict[str, Callable[[], Asked]] = {
        "lenet": lambda: _shipped("lenet", EPS, "1/255 of the range"),
        "mlp": lambda: _shipped("mlp", MEASURES_EPS, f"{MEASURES_EPS:g} of scaled measures"),
        "fcn": lambda: _drawn(fcn(folder, quick=quick), FCN_SIZE // (4 if quick else 1)),
        "plain_fcn": lambda: _shipped("plain_fcn", EPS, "1/255 of the range"),
        "strided_unet": lambda: _drawn(strided_unet(folder, quick=quick), UNET_SIZE),
        "cascade": lambda: _measured(*cascade(folder, quick=quick)),
    }
    found = makers[name]()
    with torch.no_grad():
        total = found.network(found.low).numel()
    count = min(total, 4 if quick else OUTPUTS)
    some = np.sort(np.random.default_rng(0).choice(total, count, replace=False))
    return replace(found, outputs=some)


NETWORKS = ("lenet", "mlp", "fcn", "plain_fcn", "strided_unet", "cascade")
QUICK_NETWORKS = ("mlp", "fcn", "cascade")


def _shipped(name: str, eps: float, about: str) -> Asked:
    if str(SYSTEMS) not in sys.path:
        sys.path.append(str(SYSTEMS))  # where a plan's own module lies
    plan = load_plan(SYSTEMS / f"{name}.toml")
    asked_ = {**plan.cohort.settings, "patients": {"train": 1, "test": 2}}
    cohort = build_cohort(replace(plan, cohort=replace(plan.cohort, settings=asked_)))
    entry = {**plan.model, "weights": f"shipped:{name}"}
    model = load_model(entry, cohort=cohort, device="cpu", folder=plan.folder)
    if not isinstance(model, TorchModel):
        raise SystemExit(f"certify: expected a network, got {type(model).__name__}")
    # Of a patient's slices one in the middle.
    image = cohort.cases[min(2, len(cohort.cases) - 1)].image[None]
    network = model.network.eval().requires_grad_(requires_grad=False)
    return Asked(network, *_box(image, eps, model.bounds), np.zeros(0), about)


def _drawn(network: nn.Module, size: int) -> Asked:
    image = discs_and_rings(1, 2, size)[0]
    return Asked(network, *_box(image, EPS, BOUNDS), np.zeros(0), "1/255 of the range")


def _measured(network: nn.Module, kspace: Tensor) -> Asked:
    lines = kspace != 0
    eps = KSPACE_SHARE * float(kspace[lines].square().mean().sqrt())
    about = f"{100 * KSPACE_SHARE:g} % of the measured samples' rms"
    return Asked(network, kspace - eps * lines, kspace + eps * lines, np.zeros(0), about)


def _box(image: Tensor, eps: float, bounds: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
    least, most = (torch.as_tensor(end, dtype=image.dtype) for end in bounds)
    return torch.maximum(image - eps, least), torch.minimum(image + eps, most)


def width(name: str, method: str, folder: Path, *, quick: bool) -> dict[str, Any]:
    """What one method says of the smallest and largest value of each output."""
    one = asked(name, folder, quick=quick)
    if method == "pgd":
        before = peak_mib()
        (lower, upper), seconds = timed(lambda: _reached(one))
    else:
        written = lowered(one.network, one.low).network  # the first call imports much
        before = peak_mib()
        (lower, upper), seconds = timed(lambda: _certified(one, written, METHODS[method]))
    return {
        "about": one.about, "outputs": len(one.outputs), "seconds": round(seconds, 4),
        "before_mib": before, "peak_mib": peak_mib(), "lower": lower, "upper": upper,
    }  # fmt: skip


def _certified(one: Asked, written: Network, upto: Rung) -> tuple[list[float], list[float]]:
    inputs = InputSet(one.low[0].double().numpy(), one.high[0].double().numpy())
    columns = np.concatenate([one.outputs, one.outputs])[:, None]
    signs = np.repeat([1.0, -1.0], len(one.outputs))[:, None]
    effort = Effort(upto, NEVER, close=True)
    least, most = climb(written, inputs, Rows(columns, signs), effort).limits.reshape(2, -1)
    return least.tolist(), (-most).tolist()


def _reached(one: Asked) -> tuple[list[float], list[float]]:
    """Signed gradient steps from the centre and from a random point, in float64."""
    network = one.network.double()
    low, high = one.low.double(), one.high.double()
    outputs = torch.as_tensor(one.outputs).repeat(2)
    sign = torch.tensor([1.0, -1.0], dtype=low.dtype).repeat_interleave(len(one.outputs))
    stream = torch.Generator().manual_seed(0)
    best = torch.full((len(outputs),), torch.inf, dtype=low.dtype)
    for start in (0.5, torch.rand(low.shape, generator=stream, dtype=low.dtype)):
        point = (low + start * (high - low)).repeat(len(outputs), *[1] * (low.ndim - 1))
        for step in range(STEPS + 1):
            point.requires_grad_()
            found = network(point).flatten(start_dim=1)
            value = sign * found.gather(1, outputs[:, None])[:, 0]
            (slope,) = torch.autograd.grad(value.sum(), point)
            best = torch.minimum(best, value.detach())
            stride = (high - low) * max(0.5 * (1 - step / STEPS), 0.02)
            point = torch.minimum(torch.maximum(point.detach() - stride * slope.sign(), low), high)
    least, most = best.view(2, -1)
    return least.tolist(), (-most).tolist()


def ratios(certified: dict[str, Any], reached: dict[str, Any]) -> list[float]:
    """Certified by reached width of each output that moves; stops if the search got outside."""
    found = []
    for low, high, least, most in zip(
        certified["lower"], certified["upper"], reached["lower"], reached["upper"], strict=True
    ):
        if not low <= least <= most <= high:
            raise SystemExit(f"certify: [{low}, {high}] is certified, [{least}, {most}] reached")
        if most - least > 1e-9:
            found.append((high - low) / (most - least))
    return found
