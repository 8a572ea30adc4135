"""An attack inside another one."""

from collections.abc import Mapping

from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.probes import Attack

Inner = str | Mapping[str, object] | Attack
"""An attack as a plan writes it inside another: a name, a table with `use`, or the thing itself."""


def attack_of(asked: object) -> Attack:
    """Return the attack that another attack's setting asks for.

    Raises:
        InputError: If it is no attack, or its settings do not fit.
        UnknownNameError: If nothing has that name.
    """
    if isinstance(asked, str):
        asked = {"use": asked}
    if isinstance(asked, Mapping):
        settings = dict(asked)
        use = settings.pop("use", None)
        if not isinstance(use, str):
            raise InputError(f"inner: expected {{ use = NAME, ... }}, got {dict(asked)!r}")
        asked = build("attacks", use, **settings)
    if not callable(asked) or isinstance(asked, type):
        raise InputError(f"inner: expected a name, a table or an attack, got {asked!r}")
    return asked
