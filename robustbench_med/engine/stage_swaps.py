"""Which stage of a pipeline failed, when the whole of it was attacked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import Model
from robustbench_med.networks.pipeline import Pipeline
from robustbench_med.networks.whole_patients import patients_of, slices_of, zero_filled_slices
from robustbench_med.physics.display import to_unit
from robustbench_med.probes import Metric, called

Run = Callable[[Tensor, Batch], Tensor]
SURE = 100.0  # logit of the true class: its probability is 1 in any precision


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline, and what to exchange it for.

    Attributes:
        name: For the table.
        run: Maps the output of the stage before, or the image, to this one's. It is given the
            batch too, whose image is always the clean one.
        ideal: The same, for a stage that does not fail: the truth, or a trusted way from what
            the stage is given. None exchanges the stage's output for its clean output.
    """

    name: str
    run: Run
    ideal: Run | None = None


@dataclass(frozen=True)
class Swaps:
    """Signed errors of a measure while stages are exchanged one after the other.

    Attributes:
        stages: Names, in order, `n` of them.
        attacked: `(n + 1, b)`, float64: row `i` has the first `i` stages exchanged, and the
            attacked image at the start; row 0 is the pipeline as it is.
        clean: The same from the clean image.
        moved: `(n, b)`: l2 change of each stage's own output under the attack, relative to its
            clean output.
    """

    stages: tuple[str, ...]
    attacked: Tensor
    clean: Tensor
    moved: Tensor

    @property
    def parts(self) -> Tensor:
        """What each stage carries of the attacked error, `(n, b)`.

        With `rest` it adds up to `attacked[0]`.
        """
        return self.attacked[:-1] - self.attacked[1:]

    @property
    def added(self) -> Tensor:
        """What the attack added to each stage's part, `(n, b)`."""
        return self.parts - (self.clean[:-1] - self.clean[1:])

    @property
    def rest(self) -> Tensor:
        """Attacked error that is left once every stage is exchanged, `(b,)`."""
        return self.attacked[-1]

    @property
    def failed(self) -> tuple[str | None, ...]:
        """Stage that carries most of what the attack added, in its direction, for each case.

        None where the attack added nothing, or a measure is not defined.
        """
        whole = self.attacked[0] - self.clean[0]
        most = (self.added * whole.sign()).argmax(dim=0).tolist()
        known = (self.added.isfinite().all(dim=0) & whole.isfinite() & (whole != 0)).tolist()
        pairs = zip(most, known, strict=True)
        return tuple(self.stages[index] if told else None for index, told in pairs)


@torch.no_grad()
def stage_swaps(stages: Sequence[Stage], metric: Metric, batch: Batch, attacked: Tensor) -> Swaps:
    """Run a pipeline with its stages exchanged for ideal ones, from the first on.

    A stage's part is the error that goes away once it is exchanged too, those before it being
    ideal already: what it makes of an input that is as it should be.

    Args:
        stages: In order; the last one's output is what `metric` takes.
        metric: Signed error of the measure, one value per case, such as `measure_error`.
        batch: The clean cases.
        attacked: Images that an attack on the whole pipeline found, as `batch.image`.

    Raises:
        InputError: If there is no stage, two share a name, or the images do not fit the cases.
    """
    names = tuple(stage.name for stage in stages)
    if not names or len(set(names)) < len(names):
        raise InputError(f"stage_swaps: needs stages of different names, got {', '.join(names)}")
    if attacked.shape != batch.image.shape:
        raise InputError(
            f"stage_swaps: attacked images must be {tuple(batch.image.shape)}, as the clean ones, "
            f"got {tuple(attacked.shape)}"
        )
    attacked = attacked.detach().to(batch.image)
    clean, moved = (_outputs(stages, image, batch) for image in (batch.image, attacked))
    error, unattacked = (
        _errors(stages, clean, metric, batch, image) for image in (attacked, batch.image)
    )
    change = [_change(*pair, len(batch)) for pair in zip(clean, moved, strict=True)]
    return Swaps(names, error, unattacked, torch.stack(change))


def _outputs(stages: Sequence[Stage], value: Tensor, batch: Batch) -> list[Tensor]:
    found = []
    for stage in stages:
        value = stage.run(value, batch)
        found.append(value)
    return found


def _errors(
    stages: Sequence[Stage], clean: Sequence[Tensor], metric: Metric, batch: Batch, value: Tensor
) -> Tensor:
    """Error with the first 0, 1, ..., n stages exchanged, `(n + 1, b)`."""
    errors = []
    for index in range(len(stages) + 1):
        rest = stages[index:]
        output = _outputs(rest, value, batch)[-1] if rest else value
        said = called(metric, output, batch)
        error = said["value"] if isinstance(said, Mapping) else said
        errors.append(error.double())
        if rest:
            ideal = rest[0].ideal
            value = clean[index] if ideal is None else ideal(value, batch)
    return torch.stack(errors)


def _change(clean: Tensor, attacked: Tensor, cases: int) -> Tensor:
    """l2 change relative to the clean output, `(b,)`; slices of a case stand together."""
    before, after = (output.double().reshape(cases, -1) for output in (clean, attacked))
    length = torch.linalg.vector_norm
    change: Tensor = length(after - before, dim=1) / length(before, dim=1)
    return change


def pipeline_stages(model: Model, *, full: str | None = None) -> tuple[Stage, Stage]:
    """Reconstruction and segmentation of a `pipeline`, from k-space to logits.

    The ideal reconstruction shows the clean image, and of what the attack added to k-space exactly
    what the adjoint of the measurement shows: it neither amplifies it nor hides it. So a
    reconstruction carries what it makes of the attack beyond that, and the segmentation what it
    says of an image in which the attack is honestly shown. The ideal segmentation is the truth.

    Args:
        model: Its network is a `pipeline`.
        full: Name of the context entry with the complex image of every line, `(b, 2, *s, h, w)`,
            that stands for the clean image; None takes the clean reconstruction, so that the
            clean error is the segmentation's alone.

    Raises:
        UnsupportedError: If the model is no such pipeline.
    """
    network = getattr(model, "network", None)
    if not isinstance(network, Pipeline):
        raise UnsupportedError(
            "pipeline_stages: needs a model of the network 'pipeline', got a "
            f"{type(network).__name__}; write its stages as Stage(name, run, ideal)"
        )

    def segmented(value: Tensor, batch: Batch) -> Tensor:
        logits: Tensor = network.segmentation(value)
        return patients_of(logits, batch.image)

    def honest(value: Tensor, batch: Batch) -> Tensor:
        if full is None:
            shown = network.reconstruction(*slices_of("pipeline", batch.image, batch.context))
        elif full in batch.context:
            shown = batch.context[full].movedim(1, -3).flatten(0, -4)
        else:
            held = ", ".join(batch.context) or "nothing"
            raise InputError(f"pipeline_stages: needs {full!r} in the context, which has {held}")
        # The adjoint is linear: that of the difference is what the attack adds to the image.
        added = zero_filled_slices("pipeline", value - batch.image, batch.context)
        return to_unit(torch.linalg.vector_norm(shown + added, dim=1, keepdim=True))

    def true(value: Tensor, batch: Batch) -> Tensor:
        hot = F.one_hot(batch.target, len(model.task.classes)).movedim(-1, 1)
        return SURE * hot.to(value)

    return (
        Stage(
            "reconstruction", lambda value, batch: network.magnitude(value, batch.context), honest
        ),
        Stage("segmentation", segmented, true),
    )
