"""Five patients, one of each class, put through the chain and kept at every stage."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med import clinical
from robustbench_med.cases import Batch, Case, Cohort, stack
from robustbench_med.clinical import Measures
from robustbench_med.components import build
from robustbench_med.model import TorchModel
from robustbench_med.models import load_model
from robustbench_med.networks.pipeline import Pipeline
from robustbench_med.physics.acdc import CLASSES
from robustbench_med.plan import Plan
from robustbench_med.questions import build_cohort

Image = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Example:
    """One patient's way through the chain; images are of the middle slice, `(h, w)`.

    Attributes:
        name: Of the patient.
        truth: The class of the patient's true heart.
        by_rules: What the rules make of the measured heart; None where no class fits.
        by_network: What the classifier says.
        measured: From the predicted labels; `true` from the true ones.
        kspace: Logarithm of the magnitude, at end-diastole, 0 where not acquired.
        images: Magnitudes at end-diastole by who made them, in the order of the chain.
        labels: At end-diastole and end-systole, predicted and true, over the image.
    """

    name: str
    truth: str
    by_rules: str | None
    by_network: str
    measured: Measures
    true: Measures
    kspace: Image
    images: dict[str, Image]
    labels: dict[str, tuple[Image, Image, Image]]


def make_examples(chain: Plan, classification: Plan) -> list[Example]:
    """Put the first patient of each class through the two plans' models."""
    patients, six_slices = build_cohort(chain), build_cohort(classification)
    model = load_model(chain.model, cohort=patients, folder=chain.folder)
    classifier = load_model(classification.model, cohort=six_slices, folder=classification.folder)
    network = model.network if isinstance(model, TorchModel) else None
    if not isinstance(network, Pipeline):
        raise TypeError(f"demo: expected the chain's model to be a pipeline, got {network!r}")
    with torch.no_grad():
        answers = [
            CLASSES[int(classifier(batch.image, batch.context).argmax())]
            for batch in _first(six_slices, len(CLASSES))
        ]
        return [
            _example(patients.cases[i], network, answers[i])
            for i in range(min(len(CLASSES), len(patients)))
        ]


def enlarge(plan: Plan) -> dict[str, Image]:
    """The middle thin slice of the first patient as each method sees it; `(h, w)` but the first.

    The first is the thick slice at its own resolution.
    """
    cohort = build_cohort(plan)
    case = cohort.cases[0]
    model = load_model(plan.model, cohort=cohort, folder=plan.folder)
    batch = stack([case])
    with torch.no_grad():
        found = {
            "thick slice": batch.image,
            "interpolation": build("networks", "interpolation")(batch.image),
            "espcn": model(batch.image, batch.context),
            "truth": batch.target,
        }
    return {name: _numbers(slices[0, 0, slices.shape[2] // 2]) for name, slices in found.items()}


def _first(cohort: Cohort, count: int) -> list[Batch]:
    return [stack([cohort.cases[i]]) for i in range(min(count, len(cohort)))]


def _example(case: Case, network: Pipeline, by_network: str) -> Example:
    batch = stack([case])
    predicted = network(batch.image, batch.context).argmax(dim=1)[0]
    seen = network.magnitude(batch.image, batch.context)
    count = case.target.shape[1]
    middle = count // 3
    bsa, male = float(case.context["bsa"]), bool(case.context["male"])
    spacing = case.context["spacing"].numpy()
    measured = clinical.measure(predicted.numpy(), spacing)
    labels = {
        name: (
            _numbers(seen[phase * count + middle, 0]),
            _numbers(predicted[phase, middle]),
            _numbers(case.target[phase, middle]),
        )
        for phase, name in enumerate(("ED", "ES"))
    }
    return Example(
        name=case.patient_id,
        truth=str(case.attributes["diagnosis"]),
        by_rules=clinical.diagnose(measured, bsa=bsa, male=male),
        by_network=by_network,
        measured=measured,
        true=clinical.measure(case.target.numpy(), spacing),
        kspace=_numbers(torch.linalg.vector_norm(case.image[:, 0, middle], dim=0).mul(50).log1p()),
        images=_images(batch, middle, network),
        labels=labels,
    )


def _images(batch: Batch, middle: int, network: Pipeline) -> dict[str, Image]:
    """The slice as each method reconstructs it."""
    kspace, mask = batch.image[:, :, 0, middle], batch.context["mask"][:, :, 0, middle]
    makers = {
        "zero-filled": build("networks", "zero_filled"),
        "total variation": build("networks", "total_variation", lam=0.03),
        "deep cascade": network.reconstruction,
    }
    return {
        name: _numbers(torch.linalg.vector_norm(maker(kspace, {"mask": mask})[0], dim=0))
        for name, maker in makers.items()
    }


def _numbers(values: Tensor) -> Image:
    return values.float().numpy()


def outlines(labels: Image) -> Sequence[tuple[int, Image]]:
    """Each structure's number and region, for drawing its outline."""
    return [(label, (labels == label).astype(np.float32)) for label in (1, 2, 3)]
