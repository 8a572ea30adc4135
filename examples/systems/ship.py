"""Put the trained small presets where the package ships them: weights and card of each network.

    python -P benchmarks/networks.py                     # trains and measures them, in runs/systems
    python examples/systems/ship.py runs/systems/weights

What is shipped is what docs/systems.md measures. Nothing above 2 MB is taken.
"""

import argparse
import shutil
import sys
from pathlib import Path

from robustbench_med.errors import InputError, RobustbenchMedError
from robustbench_med.plan import load_plan
from robustbench_med.shipped import FOLDER
from robustbench_med.training.card import card_path, read_card

HERE = Path(__file__).parent
PLANS = (
    "acnn_seg", "acnn_sr", "bai_fcn", "crnn_mri", "deep_cascade", "deepmedic", "dynamic_cascade",
    "espcn", "fastmri_unet", "fcn8s", "forest", "lenet", "linet", "mlp", "plain_fcn", "resnet",
    "synnet", "tl_3_joint", "unet",
)  # fmt: skip
LIMIT = 2_000_000


def ship(weights: Path) -> str:
    """Copy weights and card under the network's name, and return it."""
    card = read_card(weights) if weights.is_file() else None
    if card is None:
        raise InputError(f"{weights}: expected weights with a card beside them; train them first")
    if weights.stat().st_size > LIMIT:
        raise InputError(f"{weights}: expected at most {LIMIT} bytes, got {weights.stat().st_size}")
    FOLDER.mkdir(exist_ok=True)
    target = FOLDER / f"{card.network}.safetensors"
    shutil.copyfile(weights, target)
    shutil.copyfile(card_path(weights), card_path(target))
    return card.network


def main() -> int:
    """Ship what is trained, and say what is not."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path, help="of the trained weights")
    asked, missing = options.parse_args(), 0
    sys.path.insert(0, str(HERE))  # some plans name a module that lies beside them
    for name in PLANS:
        weights = asked.folder / Path(str(load_plan(HERE / f"{name}.toml").model["weights"])).name
        try:
            print(f"shipped:{ship(weights)}")
        except RobustbenchMedError as error:
            print(f"ship: {error}", file=sys.stderr)
            missing += 1
    return 2 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
