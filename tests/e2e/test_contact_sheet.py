"""The picture of simulated patients on their page can be drawn again."""

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_contact_sheet_is_drawn_and_small(tmp_path, monkeypatch):
    path = tmp_path / "sheet.png"
    monkeypatch.setattr(sys, "argv", ["contact_sheet.py", "--out", str(path)])
    runpy.run_path(str(ROOT / "examples/contact_sheet.py"), run_name="__main__")
    with Image.open(path) as drawn, Image.open(ROOT / "docs/images/synthetic_cine.png") as shown:
        assert drawn.size == shown.size
    assert path.stat().st_size < 600_000
