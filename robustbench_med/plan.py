"""A plan: one TOML file that says what is tested, how, and with which seed."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from robustbench_med.components import Kind
from robustbench_med.errors import InputError, raise_together
from robustbench_med.plan_fields import Fields, expand
from robustbench_med.plan_splits import Calibration, read_against, read_calibration, tested_split
from robustbench_med.plan_train import read_train
from robustbench_med.plan_validity import Validity, read_validity
from robustbench_med.shipped import located

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Component:
    """A component that a plan names, and its settings.

    Attributes:
        use: Name of a listed component, or `module:object`.
        name: What records call it.
        settings: All other keys.
    """

    use: str
    name: str
    settings: Settings


@dataclass(frozen=True)
class Asked:
    """One `[[attack]]`, `[[shift]]` or `[[certificate]]`: a component at several levels.

    Attributes:
        component: What is asked.
        levels: Ball tables with one eps each, or severities.
        cases: How many cases, drawn by the hash of their ids; None for all.
        search: How a shift's worst parameters are looked for; None for what it draws.
        then: The attack on what the search found; None for none.
    """

    component: Component
    levels: tuple[Any, ...]
    cases: int | None
    search: Component | None = None
    then: "Asked | None" = None


@dataclass(frozen=True)
class Plan:
    """A validated plan.

    Attributes:
        name: Of the run; names its folder.
        folder: The plan's own folder: relative paths start here.
        raw: The TOML as written, before environment variables.
        seed: Of every random stream.
        device: "auto", "cpu" or "cuda".
        cohort: Component table of kind cohorts.
        model: As `load_model` takes it.
        metrics: Components of kind metrics; a label may be a class name.
        tolerances: Of the metrics that have one: what is worse than it has failed.
        subgroups: Attribute columns, each alone or crossed.
        explore: Attributes among whose values the worst group is searched for.
        against: Split that the tested one is held against; None without one.
        attacks: In the plan's order; likewise `shifts` and `certificates`.
        validity: How the attacks are checked; None for not at all.
        train: The `[train]` table; None if the plan only tests.
        calibrate: How thresholds are fixed after training; None if the plan does not say.
        policy: Path of the policy that the report shows; None without one.
        batch_size: Cases at a time.
        failure_limit: Share of failed answers from which the run as a whole has failed.
    """

    name: str
    folder: Path
    raw: Settings = field(repr=False)
    seed: int
    device: str
    cohort: Component
    model: Settings
    metrics: tuple[Component, ...]
    tolerances: Mapping[str, float]
    subgroups: tuple[tuple[str, ...], ...]
    explore: tuple[str, ...]
    against: str | None
    attacks: tuple[Asked, ...]
    shifts: tuple[Asked, ...]
    certificates: tuple[Asked, ...]
    validity: Validity | None
    train: Settings | None
    calibrate: Calibration | None
    policy: Path | None
    batch_size: int
    failure_limit: float

    @property
    def digest(self) -> str:
        """Hash of the plan as written, whatever the order and layout of its keys."""
        return hashlib.sha256(json.dumps(self.raw, sort_keys=True, default=str).encode()
        ).hexdigest()  # fmt: skip


def load_plan(path: str | Path) -> Plan:
    """Read and validate a plan.

    Raises:
        InputError: Naming every mistake, a line each: unknown keys and components, wrong
            types, values out of range, environment variables that are not set.
    """
    path = Path(path)
    return parse_plan(read_toml(path), path)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; `InputError` names the file where that fails."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as TOML: {error}") from error


def parse_plan(raw: Mapping[str, Any], path: Path) -> Plan:
    """Validate a plan that was read from `path`."""
    problems: list[str] = []
    content = expand(raw, path.name, problems)
    fields = Fields(content, path.name, problems)
    folder = path.resolve().parent
    policy = fields.text("policy", None)
    cohort = _cohort(fields.table("cohort"), folder)
    tested = tested_split(cohort.use, cohort.settings)
    metrics = [_metric(entry) for entry in fields.tables("metrics")]
    train = read_train(fields, folder, cohort.use, tested)
    plan = Plan(
        name=fields.name("name"),
        folder=folder,
        raw=raw,
        seed=fields.integer("seed", 0, least=0),
        device=fields.choice("device", ("auto", "cpu", "cuda")),
        cohort=cohort,
        model=_model(fields.table("model"), folder),
        metrics=tuple(metric for metric, _ in metrics),
        tolerances={metric.name: worst for metric, worst in metrics if worst is not None},
        subgroups=fields.columns("subgroups"),
        explore=fields.names("explore"),
        against=read_against(fields, cohort.use, tested),
        attacks=tuple(_asked(entry, "attacks") for entry in fields.tables("attack")),
        shifts=tuple(_asked(entry, "shifts") for entry in fields.tables("shift")),
        certificates=tuple(_asked(entry, "certifiers") for entry in fields.tables("certificate")),
        validity=read_validity(fields),
        train=train,
        calibrate=read_calibration(fields, tested, trains=train is not None),
        policy=folder / policy if policy else None,
        batch_size=fields.integer("batch_size", 16, least=1),
        failure_limit=fields.share("failure_limit", 0.05),
    )
    fields.refuse_rest()
    _check_policy(plan, path.name, problems)
    raise_together(list(dict.fromkeys(problems)))
    return plan


def _cohort(fields: Fields, folder: Path) -> Component:
    use = fields.text("use")
    settings = fields.rest()
    if isinstance(settings.get("folder"), str):
        settings["folder"] = str(folder / settings["folder"])
    fields.check_component("cohorts", use, settings, build_it=False)
    return Component(use, use, settings)


def _model(fields: Fields, folder: Path) -> Settings:
    use = fields.text("use")
    settings = fields.rest()
    listed = {k: v for k, v in settings.items() if k not in ("weights", "classes", "size")}
    if ":" not in use and not use.endswith(".onnx"):
        for key in get_close_matches("weights", listed, n=1, cutoff=0.75):
            fields.tell(f"unknown key {key!r}; did you mean 'weights'?")
            del listed[key]
        fields.check_component("networks", use, listed, build_it=False)
    return {"use": use, **{key: _located(value, folder) for key, value in settings.items()}}


def _located(value: object, folder: Path) -> object:
    """A network that another one is made of, with its weights where they are."""
    if isinstance(value, Mapping) and isinstance(value.get("weights"), str):
        return {**value, "weights": str(located(value["weights"], folder))}
    return value


def _metric(fields: Fields) -> tuple[Component, float | None]:
    """A metric, and the tolerance beyond which a value is a failure."""
    use = fields.text("use")
    name = fields.text("name", None)
    tolerance = fields.number("tolerance")
    settings = fields.rest()
    label = settings.get("label")
    if label is not None and (isinstance(label, bool) or not isinstance(label, (int, str))):
        fields.tell(f"label: expected the name or index of a class, got {label!r}")
    fields.check_component("metrics", use, settings | ({"label": 1} if label is not None else {}))
    name = name or (use if label is None else f"{use}_{label}")
    return Component(use, name, settings), tolerance


def _asked(fields: Fields, kind: Kind) -> Asked:
    use = fields.text("use")
    name = fields.text("name", None) or use.rsplit(":", maxsplit=1)[-1]
    shift = kind == "shifts"
    levels = fields.severities("severities", name) if shift else fields.balls("ball")
    count = fields.integer("cases", None, least=1)
    search = then = None
    if shift and fields.has("search"):
        search, then = _search(fields.table("search"))
    settings = fields.rest()
    fields.check_component(kind, use, settings)
    return Asked(Component(use, name, settings), levels, count, search, then)


def _search(fields: Fields) -> tuple[Component, Asked | None]:
    """A search over a shift's parameters, and the attack that follows it."""
    use = fields.text("use")
    then = _then(fields.table("then")) if fields.has("then") else None
    settings = fields.rest()
    fields.check_component("searches", use, settings)
    return Component(use, use, settings), then


def _then(fields: Fields) -> Asked:
    asked = _asked(fields, "attacks")
    if asked.cases is not None:
        fields.tell("cases: the attack is put to the cases of its shift; set them there")
    if any("bounds" in ball for ball in asked.levels):
        fields.tell("ball: bounds: are the model's here; leave them out")
    return asked


def _check_policy(plan: Plan, where: str, problems: list[str]) -> None:
    if plan.policy is not None:
        from robustbench_med.reports.policy import load_policy

        try:
            load_policy(plan.policy)
        except InputError as error:
            problems += [f"{where}: policy: {line}" for line in str(error).splitlines()]
