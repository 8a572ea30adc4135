"""What is to be computed: a cell is one probe on one shard of cases, named by its digest."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from robustbench_med.cases import CaseSummary
from robustbench_med.components import modules_of
from robustbench_med.engine.sources import code_digest
from robustbench_med.probes import Probe

# Small enough that a killed run loses little, large enough that files stay few.
SHARD = 64


@dataclass(frozen=True)
class Inquiry:
    """A probe and the cases it is asked about.

    Attributes:
        indices: Positions in the cohort, ascending.
    """

    probe: Probe
    indices: Sequence[int]


@dataclass(frozen=True)
class Cell:
    """One probe on one shard of cases.

    Attributes:
        digest: Of the model, the probe, the code behind it, the cases and the seed.
    """

    probe: Probe
    indices: tuple[int, ...]
    case_ids: tuple[str, ...]
    digest: str


def probe_digest(probe: Probe) -> str:
    """Hash the probe's settings and the code that computes it."""
    spec = probe.spec
    return _hash({"spec": spec, "code": code_digest(modules_of(spec))})


def cells(
    inquiries: Sequence[Inquiry], summaries: Sequence[CaseSummary], *, model: str, seed: int
) -> Iterator[Cell]:
    """Cut every inquiry into cells, shard by shard, cheap probes of a shard first.

    Args:
        inquiries: In the order of the plan.
        summaries: Of every case of the cohort, in its order.
        model: Digest of the model.
        seed: Of the run.
    """
    digests = [probe_digest(inquiry.probe) for inquiry in inquiries]
    for start in range(0, len(summaries), SHARD):
        for inquiry, probe in zip(inquiries, digests, strict=True):
            inside = tuple(i for i in inquiry.indices if start <= i < start + SHARD)
            if inside:
                cases = [summaries[i].digest for i in inside]
                parts = {"model": model, "probe": probe, "cases": cases, "seed": seed}
                ids = tuple(summaries[i].case_id for i in inside)
                yield Cell(inquiry.probe, inside, ids, _hash(parts))


def pick(summaries: Sequence[CaseSummary], count: int | None, seed: int) -> tuple[int, ...]:
    """Positions of `count` cases drawn by the hash of their ids; of all where None.

    The draw depends on ids and seed alone, so probes with equal counts share their cases.
    """
    if count is None or count >= len(summaries):
        return tuple(range(len(summaries)))
    ranked = sorted(
        range(len(summaries)),
        key=lambda i: hashlib.sha256(f"{seed}\x1f{summaries[i].case_id}".encode()).digest(),
    )
    return tuple(sorted(ranked[:count]))


def _hash(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
