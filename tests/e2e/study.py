"""A study small enough to run in a second: bright and dark squares, a linear model, a plan."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

PLAN = """
name = "squares"
seed = 3
subgroups = ["sex"]
validity = { cases = 16, queries = 20 }

[cohort]
use = "folder"
folder = "data"
task = "classification"
columns = { case = "case_id", patient = "patient_id", image = "image", target = "bright" }
labels = { dark = 0, bright = 1 }
attributes = ["sex", "site"]

[model]
use = "study_model:load"

[[metrics]]
use = "correct"

[[attack]]
use = "pgd"
steps = 5
step_size = 0.5
ball = { norm = "linf", eps = [0.02, 0.05] }

[[shift]]
use = "gamma"
severities = [1]

[[certificate]]
use = "ibp"
ball = { norm = "linf", eps = 0.02 }
"""
MODEL = """
import torch
from torch import nn


class Mean(nn.Module):
    '''Bright if the mean is over one half; logits are linear in the image.'''

    def __init__(self, classes=2):
        super().__init__()
        self.linear = nn.Linear(64, classes)
        with torch.no_grad():
            self.linear.weight.fill_(0.0)
            self.linear.weight[1] = 10.0 / 64
            self.linear.bias.fill_(0.0)
            self.linear.bias[1] = -5.0

    def forward(self, image):
        return self.linear(image.flatten(1))


def load(classes=2):
    return Mean(classes)


class Nothing(nn.Module):
    def forward(self, image):
        return torch.full((len(image), 2), float("nan"))


def nothing():
    return Nothing()


class Wrong:
    def __init__(self, task, bounds):
        self.task, self.bounds, self.digest = task, bounds, "wrong"

    def __call__(self, image, context=None):
        return image.flatten(1)[:, :2]


def other_bounds():
    from robustbench_med import Task

    return Wrong(Task("classification", ("dark", "bright")), (-1.0, 1.0))
"""
POLICY = """
[[rule]]
id = "accuracy"
probe = "clean"
metric = "correct"
floor = 0.9
"""


def write_study(folder: Path, patients: int = 40) -> Path:
    """Write data, model and plan; return the plan's path."""
    images = folder / "data" / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with (folder / "data" / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["case_id", "patient_id", "image", "bright", "sex", "site"])
        for i in range(patients):
            level = 0.5 + (1 if i % 2 else -1) * (0.015 + 0.12 * rng.random())
            pixels = np.clip(255 * (level + 0.05 * rng.standard_normal((8, 8))), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(images / f"{i}.png")
            sex = ["F", "M", ""][i % 3]
            table.writerow([f"case{i}", f"patient{i}", f"images/{i}.png", i % 2, sex, "<b>&"])
    (folder / "study_model.py").write_text(MODEL, encoding="utf-8")
    (folder / "plan.toml").write_text(PLAN, encoding="utf-8")
    (folder / "policy.toml").write_text(POLICY, encoding="utf-8")
    return folder / "plan.toml"
