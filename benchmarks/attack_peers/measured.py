"""One run of one tool: what it leaves standing, and its CPU seconds."""

import gc
import importlib.util
import time
import warnings
from typing import Any

import torch

from attack_peers.asked import Run
from attack_peers.peers import PEERS
from attack_peers.setting import Setting, held


def measured(run: Run, setting: Setting) -> dict[str, Any]:
    """One run: CPU seconds, how far out of the ball it came, what is left of the cases."""
    torch.manual_seed(0)
    gc.collect()
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = run(setting)
    seconds = time.process_time() - started
    beyond = float((image - setting.batch.image).abs().max()) / setting.ball.eps
    right, dice = held(setting, setting.ball.project(image, setting.batch.image))
    found = {"seconds": [round(seconds, 4)], "held": int(right.sum()), "beyond": round(beyond, 4)}
    return found if dice is None else {**found, "dice": round(float(dice.mean()), 4)}


def added(before: dict[str, Any] | None, setting: Setting, tool: str, run: Run) -> dict[str, Any]:
    """A row with one more repeat; or why there is none."""
    package = tool.split(maxsplit=1)[0]
    if package in PEERS and importlib.util.find_spec(package) is None:
        return {"left_out": "not installed"}
    try:
        new = measured(run, setting)
    except Exception as error:  # whatever a peer raises is what is reported of it
        if package not in PEERS:
            raise
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        return {"left_out": f"{type(error).__name__}: {reason}"[:160]}
    if before:
        new["seconds"] = [*before["seconds"], *new["seconds"]]
        new["held"] = min(before["held"], new["held"])
    return new
