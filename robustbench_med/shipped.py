"""The weights that come with the package, by name: `shipped:unet`."""

from importlib.resources import files
from pathlib import Path

from robustbench_med.components import suggest
from robustbench_med.errors import InputError

PREFIX = "shipped:"
FOLDER = Path(str(files("robustbench_med"))) / "weights"


def names() -> tuple[str, ...]:
    """Networks whose small preset comes trained."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.safetensors")))


def is_shipped(weights: str | Path) -> bool:
    """Whether it names weights of the package and not a file of the user's."""
    return str(weights).startswith(PREFIX)


def located(weights: str | Path, folder: str | Path) -> Path:
    """Where a file of weights lies: in the package for `shipped:NAME`, else seen from `folder`.

    Raises:
        InputError: If no weights of that name come with the package.
    """
    if not is_shipped(weights):
        return Path(folder) / weights
    name = str(weights).removeprefix(PREFIX)
    if name not in names():
        raise InputError(
            f"weights {str(weights)!r}: no such weights come with the package, "
            f"{suggest(name, names())}; or name a file"
        )
    return FOLDER / f"{name}.safetensors"
