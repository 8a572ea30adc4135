"""A copy of a classifier in which an adversarial example surely exists: a test of the attack."""

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.engine.reread import Reread
from robustbench_med.model import Context, Model
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm

_DIRECTION, _LEVEL, _TRUTH = "planted.direction", "planted.level", "planted.truth"
_REST = "planted.rest"


def planted(model: Model, image: Tensor, context: Context) -> Tensor:
    """Read a classifier's logits anew: another class wins where they lie beyond a level.

    Everything that comes before the logits is the model's own, and so are the gradients: what
    hides them from an attack hides this one's too. The level and the direction of each case
    come from the context, see `plant`.
    """
    logits = model(image, context)
    value = ((logits - context[_LEVEL]) * context[_DIRECTION]).sum(dim=1)
    classes = torch.arange(logits.shape[1], device=logits.device)
    truth = context[_TRUTH][:, None]
    other = (truth + 1) % logits.shape[1]
    rest = context[_REST][:, None].expand_as(logits)
    return torch.where(
        classes == truth, torch.zeros_like(rest),
        torch.where(classes == other, value[:, None], rest),
    )  # fmt: skip


@torch.no_grad()
def plant(
    model: Model, batch: Batch, ball: Ball, rng: CaseRng, draws: int = 100
) -> tuple[Reread, Batch, Tensor]:
    """Change a classifier so that a point of each case's ball, and not its centre, is wrong.

    Points are drawn at the edge of the ball. The logits of one that lies far from the clean image's
    set a direction; the level stands halfway between the two points that lie farthest along it.
    So the farthest is adversarial by construction, the clean image and all others drawn are not,
    and a search must do better than about `draws` draws. The clean image's margin is the
    model's own, so that logits that saturate a loss go on to do so.

    Args:
        model: A classifier.
        batch: Cases that it gets right.
        ball: In which the attack may search.
        rng: Streams of the cases.
        draws: Points drawn, at least 2.

    Returns:
        The changed model, the batch whose context it reads, and where planting was possible,
        `(b,)`: not where the logits hardly move within the ball.

    Source: after Zimmermann et al., NeurIPS 2022, arXiv:2206.13991 (recalled, section not
    confirmed). Deviations: the new readout is of the logits, and set by two points in place of
    training; classes beyond two stay below the two.
    """
    clean = model(batch.image, batch.context)
    drawn = torch.stack([
        model(point(batch, ball, rng, draw), batch.context) for draw in range(draws)
    ])  # fmt: skip
    moved = drawn - clean  # (draws, b, k)
    spread = moved.square().mean(dim=0).sqrt()
    spread = spread.maximum(
        1e-6 * spread.amax(dim=1, keepdim=True)
    )  # all 0 gives NaN, which is not possible
    far = (moved / spread).square().sum(dim=2).argmax(dim=0)
    direction = moved[far, torch.arange(len(batch), device=far.device)] / spread.square()
    value = (moved * direction).sum(dim=2)
    second, first = value.topk(2, dim=0).values.flip(0)
    level = (second.clamp(min=0) + first) / 2
    # Rounding of the logits, as far along the direction as it can reach.
    noise = 100 * torch.finfo(clean.dtype).eps * (clean.abs() * direction.abs()).sum(dim=1)
    possible = direction.isfinite().all(dim=1) & (first - level > noise)
    level = level.where(possible, 1.0)
    direction = direction.where(possible[:, None], 0.0)
    margin = _margin(clean, batch.target)
    length = direction.square().sum(dim=1, keepdim=True).clamp(min=torch.finfo(clean.dtype).tiny)
    context = {
        **batch.context,
        _DIRECTION: direction * (margin / level)[:, None],
        _LEVEL: clean + level[:, None] * direction / length,
        _TRUTH: batch.target,
        _REST: -2 * margin,
    }
    changed = Batch(batch.case_ids, batch.image, batch.target, context)
    return Reread(model, planted), changed, possible


def point(batch: Batch, ball: Ball, rng: CaseRng, draw: int) -> Tensor:
    """Point number `draw` at the edge of each case's ball, `(b, c, *s)`."""
    offset = rng.child(str(draw)).normal_like(batch.image)
    offset = offset.sign() if ball.norm == "linf" else offset / per_case_norm(offset, ball.norm)
    far = batch.image + ball.radius(batch.image, batch.context) * offset
    return ball.project(far, batch.image, batch.context)


def _margin(logits: Tensor, target: Tensor) -> Tensor:
    true = logits.gather(1, target[:, None])
    others = logits.scatter(1, target[:, None], -torch.inf)
    return (true.squeeze(1) - others.amax(dim=1)).clamp(min=1e-3)
