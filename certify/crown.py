"""Linear bounds of the output and of everything before it."""

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
class Crown:
    """Prove that the true answer stands, from linear limits on every layer.

    The tightest here, and the slowest: every unstable neuron costs a backward pass. Whatever
    intervals prove counts too; a segmentation's pixels that a faster method proves are left
    to it.

    A proof in real arithmetic, by an engine that rounds: see `slack`. Not certified means not
    proved, never that an attack exists.

    Attributes:
        slack: Smallest margin that counts as proved, relative to 1 + the largest output.

    Source: Zhang et al., NeurIPS 2018, arXiv:1811.00866, section 3; Xu et al., NeurIPS 2020,
        arXiv:2002.12920.
    """

    slack: float = SLACK

    def __post_init__(self) -> None:
        check_slack("crown", self.slack)

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Values:
        """See `Certifier` and `certify`."""
        return certify(Request(model, batch, ball, "crown", self.slack), rng)
