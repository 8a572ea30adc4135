"""Interval bounds, layer by layer."""

from dataclasses import dataclass

from robustbench_med.cases import Batch
from robustbench_med.certify.certificate import certify
from robustbench_med.certify.lirpa import SLACK
from robustbench_med.certify.request import Request, check_slack
from robustbench_med.model import Model
from robustbench_med.probes import Values
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball


@dataclass(frozen=True)
class Ibp:
    """Prove that the true answer stands, from intervals that each layer maps on.

    The fastest and loosest: useful for networks trained for it.

    A proof in real arithmetic, by an engine that rounds: see `slack`. Not certified means not
    proved, never that an attack exists.

    Attributes:
        slack: Smallest margin that counts as proved, relative to 1 + the largest output.

    Source: Gowal et al., arXiv:1810.12715, section 3. Deviation: an l2 ball is bounded as the
        box around it.
    """

    slack: float = SLACK

    def __post_init__(self) -> None:
        check_slack("ibp", self.slack)

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Values:
        """See `Certifier` and `certify`."""
        return certify(Request(model, batch, ball, "ibp", self.slack), rng)
