"""What a shift of receive coils requires of the cases."""

from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError
from robustbench_med.shifts.requirements import require_kspace


def require_coils(who: str, batch: Batch, instead: str) -> Tensor:
    """Return where a sample was acquired, bool, `(b, 1, *p, h, w)`, if there are several coils.

    Args:
        who: The shift's name.
        batch: k-space as real channels, `(b, 2c, *s)`, of `c` coils.
        instead: What to use for others, for the message.

    Raises:
        CaseError: If the case is no k-space, or of one coil.
    """
    acquired = require_kspace(who, batch, instead)
    if batch.image.shape[1] < 4:
        case = batch.case_ids[0]
        raise CaseError(
            f"{who}: acts on several coils, case {case!r} has k-space of one; {instead}"
        )
    return acquired


def own_noise(who: str, batch: Batch) -> Tensor:
    """Return each case's own noise, `(b,)`: the standard deviation of a real channel of a sample.

    Raises:
        CaseError: If there is none in the context, or it is not above 0, naming the first such
            case.
    """
    noise = batch.context.get("noise")
    if noise is None or tuple(noise.shape) != (len(batch),):
        got = "none" if noise is None else f"shape {tuple(noise.shape[1:])}"
        raise CaseError(
            f"{who}: needs noise in the context, one standard deviation a case, got {got}"
        )
    wrong = (~(noise.isfinite() & (noise > 0))).nonzero()
    if len(wrong):
        first = int(wrong[0])
        raise CaseError(
            f"{who}: needs noise above 0 in the context, because severity multiplies it; "
            f"case {batch.case_ids[first]!r} has {float(noise[first]):g}"
        )
    return noise
