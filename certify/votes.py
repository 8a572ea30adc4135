"""How often a model gives which answer to an image under Gaussian noise."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng

# Noisy images that are held and answered together. Constants, not settings: with other groups of
# images a network may round otherwise, and a vote may fall otherwise.
AT_ONCE = 256
VOXELS = 2**20


def most_common(model: Model, one: Batch, sigma: float, rounds: int, rng: CaseRng) -> Tensor:
    """Return the class answered most often at each position, `(*s)`; `()` for a classifier.

    Args:
        model: Answers with logits `(b, k)` or `(b, k, *s)`.
        one: One case.
        sigma: Standard deviation of the noise, in intensity units.
        rounds: Noisy images to ask about.
        rng: Of that case.

    Raises:
        CaseError: If an answer is not finite.
    """
    classes = torch.arange(len(model.task.classes), device=one.image.device)
    votes: Tensor | None = None
    for answers in _answers(model, one, sigma, rounds, rng):
        each = classes.view(-1, *[1] * answers.ndim)
        counted = (answers == each).sum(dim=1)
        votes = counted if votes is None else votes + counted
    if votes is None:
        raise CaseError("no noisy image was asked about")
    return votes.argmax(dim=0)


def agreeing(
    model: Model, one: Batch, sigma: float, rounds: int, rng: CaseRng, chosen: Tensor
) -> Tensor:
    """How many of `rounds` noisy images get the `chosen` class, `(*s)`; else as `most_common`."""
    votes = torch.zeros_like(chosen)
    for answers in _answers(model, one, sigma, rounds, rng):
        votes += (answers == chosen).sum(dim=0)
    return votes


def _answers(model: Model, one: Batch, sigma: float, rounds: int, rng: CaseRng) -> Iterator[Tensor]:
    at_once = max(1, min(AT_ONCE, VOXELS // one.image.numel()))
    shape = one.image.shape[1:]
    for start in range(0, rounds, at_once):
        count = min(at_once, rounds - start)
        # Image by image, so that what is drawn does not depend on how many are held.
        noise = torch.cat([rng.normal(*shape) for _ in range(count)]).to(one.image)
        yield _classes(model, one.image + sigma * noise, one.context)


@torch.no_grad()
def _classes(model: Model, images: Tensor, context: Mapping[str, Tensor]) -> Tensor:
    shared = {name: value.expand(len(images), *value.shape[1:]) for name, value in context.items()}
    output = model(images, shared)
    if not output.isfinite().all():
        raise CaseError("the model's output is not finite under noise")
    return output.argmax(dim=1)
