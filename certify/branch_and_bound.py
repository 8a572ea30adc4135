"""Margins proved part by part, each part with its own signs of ReLU inputs."""

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
class BranchAndBound:
    """Prove or break the true answer by splitting the set where ReLUs change their sign.

    What `alpha_crown` leaves undecided is split until it is proved, an image breaks it, or the
    budget is spent: 1000 parts for each of at most 256 margins of a case, those nearest to being
    proved first. A budget in parts, not in seconds: the answer does not depend on the machine.
    Only networks that can be written out as affine operations and ReLU.

    Attributes:
        slack: Smallest margin that counts as proved, relative to 1 + the largest output.

    Source: Bunel et al., JMLR 21 (2020); Wang et al., NeurIPS 2021, arXiv:2103.06624; De Palma et
        al., arXiv:2104.06718.
    """

    slack: float = SLACK

    def __post_init__(self) -> None:
        check_slack("branch_and_bound", self.slack)

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Values:
        """See `Certifier` and `certify`."""
        return certify(Request(model, batch, ball, "branch_and_bound", self.slack), rng)
