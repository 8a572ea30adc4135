"""What a plan says of the checks of its attacks: on how many cases, against which surrogate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustbench_med.plan_fields import Fields

CASES = 32
"""Enough for one case in eight to be suspect, few enough for a gate."""
LEAST = 16
QUERIES = 500


@dataclass(frozen=True)
class Validity:
    """How the plan's attacks are checked.

    Attributes:
        cases: That the model gets right, at most, for each attack and ball.
        queries: Of the black box beside each attack.
        surrogate: Another network for the same task, as the attack `transfer` takes it; None
            leaves that check out.
    """

    cases: int = CASES
    queries: int = QUERIES
    surrogate: Mapping[str, Any] | None = None


def read_validity(fields: Fields) -> Validity | None:
    """Read `validity`, a table, or false for no checks: None. Without it there are checks."""
    if not fields.has("validity"):
        return Validity()
    if fields.is_false("validity"):
        return None
    table = fields.table("validity")
    cases = table.integer("cases", CASES, least=LEAST)
    queries = table.integer("queries", QUERIES, least=1)
    surrogate = _surrogate(table.table("surrogate")) if table.has("surrogate") else None
    table.refuse_rest()
    return Validity(cases, queries, surrogate)


def _surrogate(fields: Fields) -> Mapping[str, Any]:
    use, settings = fields.text("use"), fields.rest()
    network = {key: value for key, value in settings.items() if key != "weights"}
    fields.check_component("networks", use, network, build_it=False)
    fields.check_component("attacks", "transfer", {"surrogate": {"use": use, **settings}})
    return {"use": use, **settings}
