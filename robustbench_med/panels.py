"""Are a run's attacks to be believed? A panel of checks for each, stored one by one."""

import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from robustbench_med.attacks.given import Given
from robustbench_med.attacks.inner import attack_of
from robustbench_med.attacks.keep import Keep
from robustbench_med.attacks.random_search import RandomSearch
from robustbench_med.attacks.square import Square
from robustbench_med.attacks.transfer import Transfer
from robustbench_med.cases import batches
from robustbench_med.engine.cells import Inquiry, pick, probe_digest
from robustbench_med.engine.evaluate import device_of
from robustbench_med.engine.local import OnProgress, Progress
from robustbench_med.engine.sources import code_digest
from robustbench_med.engine.validity import Panel, panel, scaled, without_checks
from robustbench_med.engine.validity_questions import Searches
from robustbench_med.engine.validity_sample import decides
from robustbench_med.engine.validity_store import (
    panel_path,
    prune_panels,
    read_panel,
    told,
    write_panel,
)
from robustbench_med.engine.validity_together import together
from robustbench_med.errors import RobustbenchMedError
from robustbench_med.model import Model
from robustbench_med.plan_validity import Validity
from robustbench_med.preparing import Prepared
from robustbench_med.probes import Attack, Probe
from robustbench_med.runfolder import Run
from robustbench_med.threat import Ball

UNCHECKED = "unchecked"


@dataclass(frozen=True)
class Judged:
    """An attack of the plan in one ball, whose figure is to be judged.

    Attributes:
        probe: Its name.
        attack: As built.
        ball: Where.
        inquiry: The probe with its cases.
        digest: Of all that its panel depends on.
    """

    probe: str
    attack: Attack
    ball: Ball
    inquiry: Inquiry
    digest: str


def judge_attacks(prepared: Prepared, run: Run, on_progress: OnProgress) -> dict[str, Any]:
    """Return what is said of each attack and each worst case, by probe.

    Each panel is stored as soon as it is there, so that an interrupted run goes on.
    """
    asked, said = prepared.plan.validity, _unasked(prepared)
    if asked is None:
        return said
    attacks = list(_judged(prepared, asked))
    panels: dict[str, Panel] = {}
    clock = _Clock(len(attacks), on_progress)
    for judged in attacks:
        found = read_panel(run, judged.digest)
        if found is None:
            clock.next(judged.probe)
            found = _asked(judged, prepared, asked)
            write_panel(run, judged.digest, judged.probe, found)
            clock.fresh += 1
        clock.done += 1
        if isinstance(found, Panel):
            panels[judged.probe] = found
            said[judged.probe] = told(found)
        else:
            said[judged.probe] = {"verdict": UNCHECKED, "why": found}
    if clock.fresh:
        clock.next(attacks[-1].probe)
    for ball, names in _by_ball(attacks).items():
        said[f"worst[{ball}]"] = _joint([panels[name] for name in names if name in panels])
    prune_panels(run, [judged.digest for judged in attacks])
    return said


def _unasked(prepared: Prepared) -> dict[str, Any]:
    """What is said before anything is checked; it stands where nothing is."""
    off = prepared.plan.validity is None
    attacks = [i.probe for i in prepared.inquiries if i.probe.kind == "attack"]
    why = "validity = false in the plan" if off else "eps is 0: nothing can change"
    names = [name for p in attacks for name in (p.name, f"worst[{_ball_of(p)}]")]
    return {name: {"verdict": UNCHECKED, "why": why} for name in names}


def _ball_of(probe: Probe) -> Ball:
    measure: Any = probe.measure
    ball: Ball = measure.ball
    return ball


def _joint(panels: Sequence[Panel]) -> dict[str, Any]:
    """What is said of the worst case over attacks; of one attack alone, its checks say it all."""
    if not panels:
        return {"verdict": UNCHECKED, "why": "none of its attacks could be checked"}
    said = told(together(panels))
    if len(panels) == 1:
        del said["checks"]
    return said


def panels_stored(prepared: Prepared, run: Run) -> bool:
    """Whether every panel that the plan asks for is stored."""
    asked = prepared.plan.validity
    return asked is None or all(
        panel_path(run, judged.digest).is_file() for judged in _judged(prepared, asked)
    )


def _judged(prepared: Prepared, asked: Validity) -> Iterator[Judged]:
    code = code_digest({"robustbench_med.panels"})
    # With the digest of its weights.
    beside = None if asked.surrogate is None else Transfer(asked.surrogate).surrogate
    for inquiry in prepared.inquiries:
        measure: Any = inquiry.probe.measure
        if inquiry.probe.kind != "attack" or measure.ball.eps == 0:
            continue
        cases = [prepared.summaries[i].digest for i in inquiry.indices]
        parts = (
            prepared.model_digest, probe_digest(inquiry.probe), cases, prepared.plan.seed,
            asked.cases, asked.queries, beside, code,
        )  # fmt: skip
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        attack = measure.attack
        attack = attack_of(attack.inner) if isinstance(attack, Keep) else attack
        yield Judged(inquiry.probe.name, attack, measure.ball, inquiry, digest)


def _asked(judged: Judged, prepared: Prepared, asked: Validity) -> Panel | str:
    model, plan = prepared.model, prepared.plan
    chosen = pick(prepared.summaries, min(2 * asked.cases, len(judged.inquiry.indices)), plan.seed)
    device = device_of(model)
    cases = (b.to(device) for b in batches(prepared.cohort.cases, chosen, plan.batch_size))
    searches = _searches(judged.attack, asked, model)
    attack, ball, size, seed = judged.attack, judged.ball, asked.cases, plan.seed
    try:
        if isinstance(attack, Given):
            return without_checks(model, cases, attack, ball, size=size, seed=seed)
        return panel(model, cases, attack, ball, searches, size=size, seed=seed)
    except RobustbenchMedError as error:
        return str(error).splitlines()[0]
    except Exception as error:  # an attack from elsewhere may raise anything
        return f"the checks ended with {type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _searches(attack: Attack, asked: Validity, model: Model) -> Searches:
    goal = None if decides(model.task) else getattr(attack, "objective", None)
    like = torch.zeros(1, device=device_of(model))
    return Searches(
        weaker=scaled(attack, 0.25),
        stronger=scaled(attack, 4),
        random=lambda queries: RandomSearch(queries=queries, objective=goal),
        black_box=Square(queries=asked.queries, objective=goal),
        surrogate=None if asked.surrogate is None
        else Transfer(asked.surrogate).beside(model, like),
    )  # fmt: skip


def _by_ball(attacks: Sequence[Judged]) -> dict[str, list[str]]:
    """Attacks by the ball that they share; of each, only those that were put to the most cases.

    One that was put to fewer says nothing of the worst case of the others.
    """
    balls: dict[str, list[Judged]] = {}
    for judged in attacks:
        balls.setdefault(str(judged.ball), []).append(judged)
    most = {ball: max(len(j.inquiry.indices) for j in found) for ball, found in balls.items()}
    return {
        ball: [j.probe for j in found if len(j.inquiry.indices) == most[ball]]
        for ball, found in balls.items()
    }


class _Clock:
    """Tells which attack is being checked, and how long the rest may take."""

    def __init__(self, total: int, on_progress: OnProgress) -> None:
        self.total, self.on_progress = total, on_progress
        self.done = self.fresh = 0
        self.start = time.perf_counter()

    def next(self, probe: str) -> None:
        """Say that `probe` is checked next; or, all done, was the last."""
        spent = time.perf_counter() - self.start
        left = spent / self.fresh * (self.total - self.done) if self.fresh else math.nan
        counts = self.done, self.total, self.fresh
        self.on_progress(Progress(*counts, spent, left, probe, "attacks checked"))
