"""What follows from the rows: ratios, who is strongest, the table of the page."""

from typing import Any

import numpy as np

from attack_peers.asked import COMPARED
from attack_peers.peers import PEERS


def summary(rows: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Cases that we leave standing beyond the strongest peer, and ratios of CPU seconds."""
    behind, ratios = {}, {}
    for network, tools in rows.items():
        ran = {tool: row for tool, row in tools.items() if "held" in row}
        mine = [row["held"] for tool, row in ran.items() if tool.startswith("ours ")
                and tool != "ours plain"]  # fmt: skip
        peers = {tool: row["held"] for tool, row in ran.items() if tool.split()[0] in PEERS}
        if mine and peers:
            best = min(peers, key=lambda tool: peers[tool])
            behind[network] = {"ours": min(mine), "peer": best, "peer_held": peers[best]}
        ratios[network] = {
            f"{one} / {other}": paired(ran[one]["seconds"], ran[other]["seconds"])
            for one, other in COMPARED
            if one in ran and other in ran
        }  # fmt: skip
    return {"strongest": behind, "ratios": {k: v for k, v in ratios.items() if v}}


def paired(one: list[float], other: list[float]) -> float:
    """Median of the ratios, repeat by repeat."""
    return round(float(np.median([a / b for a, b in zip(one, other, strict=False)])), 3)


def table(result: dict[str, Any]) -> list[str]:
    """Rows of the page: network, attack, cases held, mean Dice, CPU seconds."""
    lines = ["| network | attack | held | CPU seconds |", "|---|---|---|---|"]
    for network, tools in result["rows"].items():
        for tool, row in tools.items():
            if "left_out" in row:
                cells = f"cannot: {row['left_out']}", ""
            else:
                dice = f", mean Dice {row['dice']:.3f}" if "dice" in row else ""
                cells = f"{row['held']}{dice}", f"{float(np.median(row['seconds'])):.2f}"
            lines.append(f"| `{network}` | {tool} | {' | '.join(cells)} |")
    return lines
