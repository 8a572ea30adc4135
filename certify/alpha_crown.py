"""Linear bounds whose slopes are sought for each margin."""

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
class AlphaCrown:
    """Prove that the true answer stands, with lines below the ReLUs that suit each margin.

    What `crown` leaves undecided is bounded again, its slopes climbing by gradient ascent: 20
    steps, of at most 256 margins of a case, those nearest to being proved first. Only networks
    that can be written out as affine operations and ReLU.

    Attributes:
        slack: Smallest margin that counts as proved, relative to 1 + the largest output.

    Source: Xu et al., ICLR 2021, arXiv:2011.13824. Deviation: limits of hidden layers stay those of
        `crown`.
    """

    slack: float = SLACK

    def __post_init__(self) -> None:
        check_slack("alpha_crown", self.slack)

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Values:
        """See `Certifier` and `certify`."""
        return certify(Request(model, batch, ball, "alpha_crown", self.slack), rng)
