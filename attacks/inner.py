"""An attack inside another one."""

from collections.abc import Mapping

from robustbench_med.components import made
from robustbench_med.probes import Attack

Inner = str | Mapping[str, object] | Attack
"""An attack as a plan writes it inside another: a name, a table with `use`, or the thing itself."""


def attack_of(asked: object) -> Attack:
    """Return the attack that another attack's setting asks for.

    Raises:
        InputError: If it is no attack, or its settings do not fit.
        UnknownNameError: If nothing has that name.
    """
    attack: Attack = made("attacks", "inner", asked)
    return attack
