"""Linear bounds of the output over interval bounds of what comes before."""

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
class CrownIbp:
    """Prove that the true answer stands, from linear limits on the output.

    Much tighter than intervals where the network is shallow, at the cost of a backward pass
    per margin. Whatever intervals prove counts too.

    A proof in real arithmetic, by an engine that rounds: see `slack`. Not certified means not
    proved, never that an attack exists.

    Attributes:
        slack: Smallest margin that counts as proved, relative to 1 + the largest output.

    Source: Zhang et al., ICLR 2020, arXiv:1906.06316, section 3.2.
    """

    slack: float = SLACK

    def __post_init__(self) -> None:
        check_slack("crown_ibp", self.slack)

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Values:
        """See `Certifier` and `certify`."""
        return certify(Request(model, batch, ball, "crown_ibp", self.slack), rng)
