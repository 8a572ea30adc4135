"""What is wrong with the settings of a training, in words."""

import math
from collections.abc import Mapping

LEAST = {"epochs": 1, "batch_size": 1, "accumulate": 1, "patience": 1, "seed": 0, "workers": 0}
# Lowest and highest legal number, neither of which is legal itself, but for weight_decay's 0.
BETWEEN = {
    "learning_rate": (0.0, math.inf), "weight_decay": (0.0, math.inf), "clip": (0.0, math.inf),
    "average": (0.0, 1.0),
}  # fmt: skip
OPTIONAL = ("patience", "clip", "average", "validation", "start")


def wrong(settings: object, words: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Every setting that is out of range, a line each.

    Args:
        settings: A `TrainSettings`.
        words: Legal words by setting.
    """
    told = {
        name: value
        for name in (*LEAST, *BETWEEN, *words, "validation", "start")
        if (value := getattr(settings, name)) is not None or name not in OPTIONAL
    }
    problems = [_wrong_count(n, told[n]) for n in LEAST if n in told]
    problems += [_wrong_number(n, told[n]) for n in BETWEEN if n in told]
    problems += [_wrong_word(n, told[n], legal) for n, legal in words.items()]
    problems += [_wrong_text(n, told[n]) for n in ("validation", "start") if n in told]
    problems += _wrong_names(settings)
    return [problem for problem in problems if problem]


def _wrong_count(name: str, value: object) -> str:
    if type(value) is int and value >= LEAST[name]:
        return ""
    return f"{name} must be a whole number, at least {LEAST[name]}, got {value!r}"


def _wrong_number(name: str, value: object) -> str:
    low, high = BETWEEN[name]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and (low < value < high or (name, value) == ("weight_decay", 0)):  # type: ignore[operator]
        return ""
    if high < math.inf:
        return f"{name} must be a number above {low:g} and below {high:g}, got {value!r}"
    least = "at least 0" if name == "weight_decay" else "above 0"
    comma = "," if name == "weight_decay" else ""
    return f"{name} must be a finite number{comma} {least}, got {value!r}"


def _wrong_word(name: str, value: object, legal: tuple[str, ...]) -> str:
    # A loss may be a component instead of a word.
    if value in legal or (name == "loss" and not isinstance(value, str)):
        return ""
    return f"{name} must be one of {', '.join(legal)}, got {value!r}"


def _wrong_text(name: str, value: object) -> str:
    if isinstance(value, str) and value:
        return ""
    return f"{name} must be a text that is not empty, got {value!r}"


def _wrong_names(settings: object) -> list[str]:
    fresh, start = getattr(settings, "start_except", ()), getattr(settings, "start", None)
    if not isinstance(fresh, (list, tuple)) or not all(isinstance(n, str) and n for n in fresh):
        return [f"start_except must be a list of names of parameters or modules, got {fresh!r}"]
    return ["start_except is for start, which is missing"] if fresh and start is None else []
