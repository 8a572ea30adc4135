"""What a newcomer does wrong, or somebody does behind one's back."""

import pandas as pd
import pytest

BROKEN = {
    "a tuple": (
        (
            "def load(): return Pair()\nclass Pair(nn.Module):\n"
            "    def forward(self, image): return image.flatten(1)[:, :2], 1\n"
        ),
        "expected a tensor, got a tuple",
    ),
    "a model that raises when built": (
        "def load(): raise RuntimeError('no such checkpoint')\n",
        "study_model:load raised RuntimeError: no such checkpoint (study_model.py:",
    ),
    "a module that raises when imported": ("1 / 0\n", "ZeroDivisionError"),
    "probabilities": (
        "def load(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.Softmax(dim=1))\n",
        "leave the softmax out",
    ),
}


@pytest.mark.parametrize(("code", "said"), BROKEN.values(), ids=BROKEN)
def test_a_model_that_cannot_be_used_is_refused_in_one_line(study, code, said):
    (study.folder / "study_model.py").write_text(f"import torch\nfrom torch import nn\n{code}")
    code, out, err = study.rbmed("check", study.plan)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert said in err


def test_a_radius_beyond_the_whole_range_is_taken_for_grey_levels(study):
    study.edit("eps = [0.02, 0.05]", "eps = [4, 8]")
    code, _, err = study.rbmed("check", study.plan)
    assert code == 2
    assert "more than the whole range of intensities, 0 to 1" in err
    assert "0.00392" in err


def test_a_policy_that_asks_what_the_plan_does_not_is_refused_before_anything_runs(study):
    study.edit("seed = 3", 'seed = 3\npolicy = "policy.toml"')
    policy = study.folder / "policy.toml"
    rules = policy.read_text()
    rules += rules.replace("accuracy", "b").replace('"clean"', '"worst[linf<=0.5]"')
    rules += rules.replace("accuracy", "c").replace('"b"', '"d"') + 'subgroup = "site"\n'
    policy.write_text(rules)
    code, _, err = study.run()
    assert code == 2
    assert "the plan has no probe 'worst[linf<=0.5]'" in err
    assert "the plan has no subgroup 'site'; add it to subgroups" in err
    assert not (study.folder / "run").exists()


@pytest.mark.parametrize("name", ["estimates", "records", "cases", "failures"])
def test_numbers_that_were_altered_by_hand_are_never_judged_or_shown(study, name):
    study.run()
    path = study.folder / "run" / f"{name}.parquet"
    table = pd.read_parquet(path)
    changed = pd.concat([table, table]) if len(table) else table.assign(extra=[])
    changed.to_parquet(path)
    for command in (("report",), ("gate",)):
        more = [study.folder / "policy.toml"] if command == ("gate",) else []
        code, _, err = study.rbmed(*command, study.folder / "run", *more)
        assert code == 4, command
        assert f"{name}.parquet: altered since the run wrote it" in err
    code, _, _ = study.run()
    assert code == 0
    code, _, _ = study.rbmed("report", study.folder / "run")
    assert code == 0


def test_a_model_that_leaves_torch_inside_is_no_breach_of_integrity(study):
    code = (
        "import torch\nfrom torch import nn\nclass Outside(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.head = nn.Linear(1, 2)\n"
        "    def forward(self, image):\n"
        "        mean = torch.as_tensor(image.detach().numpy().mean(axis=(1, 2, 3)))\n"
        "        return self.head(mean[:, None])\n"
        "def load():\n    torch.manual_seed(0)\n    return Outside()\n"
    )
    (study.folder / "study_model.py").write_text(code)
    code, out, err = study.run()
    assert (code, err) == (0, "")
    assert "gives no gradients" in out
    summary = (study.folder / "run" / "summary.md").read_text()
    assert "gives no gradients" in summary
    failures = pd.read_parquet(study.folder / "run" / "failures.parquet")
    assert set(failures["error"]) == {"UnsupportedError"}
    assert failures["probe"].str.startswith("ibp").any()
