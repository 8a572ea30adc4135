"""Settings of attacks that are numbers of steps, queries or starts."""

from robustbench_med.errors import InputError


def check_counts(who: str, settings: object, *names: str) -> None:
    """Refuse settings of these names that are no whole number of at least 1.

    Raises:
        InputError: If one is not.
    """
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{who}: {name} must be a whole number, at least 1, got {value!r}")
