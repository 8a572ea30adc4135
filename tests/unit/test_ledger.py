"""The ledger counts looks at the same cases, and says when it is not whole."""

import json
import multiprocessing

import pytest

from robustbench_med.errors import InputError
from robustbench_med.ledger import FILE, Looks, check_ledger, look, looks
from robustbench_med.runfolder import Run


def manifest(*, name="a", cohort="cases", model="m1", plan="p1", policy=None):
    digests = {"cohort": cohort, "model": model, "policy": policy}
    return {"name": name, "plan_digest": plan, "digests": digests}


def enter(folder, **changes):
    return look(Run(folder / "run"), manifest(**changes), "2026-11-01T10:00:00Z")


def lines(folder):
    return (folder / FILE).read_text(encoding="utf-8").splitlines()


def test_each_new_look_at_the_same_cases_counts_and_models_count_once(tmp_path):
    assert looks(tmp_path, "cases") == Looks(0, 0, True)
    assert enter(tmp_path) == Looks(1, 1, True)
    assert enter(tmp_path, plan="p2") == Looks(2, 1, True)
    assert enter(tmp_path, model="m2") == Looks(3, 2, True)
    assert enter(tmp_path, policy="q") == Looks(4, 2, True)
    assert enter(tmp_path, cohort="others") == Looks(1, 1, True)
    assert looks(tmp_path, "cases") == Looks(4, 2, True)


def test_the_same_look_again_adds_no_line_even_after_others(tmp_path):
    for model in ("m1", "m2", "m1"):
        found = enter(tmp_path, model=model)
    assert found == Looks(2, 2, True)
    assert len(lines(tmp_path)) == 2


def test_a_line_says_when_what_and_what_came_before(tmp_path):
    enter(tmp_path, policy="q")
    (line,) = map(json.loads, lines(tmp_path))
    assert line.pop("previous")
    assert line == {
        "time": "2026-11-01T10:00:00Z", "run": "a", "cohort": "cases", "model": "m1",
        "plan": "p1", "policy": "q",
    }  # fmt: skip


def three(folder):
    for model in ("m1", "m2", "m3"):
        enter(folder, model=model)
    return lines(folder)


@pytest.mark.parametrize("place", [0, 1])
def test_an_edited_line_is_told_and_the_rest_still_counts(tmp_path, place):
    found = three(tmp_path)
    found[place] = found[place].replace("2026", "2025")
    (tmp_path / FILE).write_text("\n".join(found) + "\n", encoding="utf-8")
    assert looks(tmp_path, "cases") == Looks(3, 3, False)


@pytest.mark.parametrize("place", [0, 1])
def test_a_line_that_was_taken_out_is_told(tmp_path, place):
    found = three(tmp_path)
    del found[place]
    (tmp_path / FILE).write_text("\n".join(found) + "\n", encoding="utf-8")
    assert looks(tmp_path, "cases") == Looks(2, 2, False)


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_torn_last_line_is_told_and_the_next_look_starts_a_line_of_its_own(tmp_path, kept):
    three(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    last = content.splitlines(keepends=True)[-1]
    (tmp_path / FILE).write_bytes(content[: -len(last)] + last[:kept])
    assert not looks(tmp_path, "cases").intact
    found = enter(tmp_path, model="m4")
    assert found.models == (4 if kept == -1 else 3)
    assert json.loads(lines(tmp_path)[-1])["model"] == "m4"
    assert len(lines(tmp_path)) == 4


def test_a_ledger_of_rubbish_is_told_and_written_on(tmp_path):
    (tmp_path / FILE).write_bytes(b"\xff\x00rubbish\n[1]\n")
    assert looks(tmp_path, "cases") == Looks(0, 0, False)
    assert enter(tmp_path) == Looks(1, 1, False)
    assert enter(tmp_path, plan="p2") == Looks(2, 1, False)


def test_a_ledger_that_cannot_be_written_is_told_before_anything_is_computed(tmp_path):
    (tmp_path / FILE).mkdir()
    for call in (lambda: enter(tmp_path), lambda: check_ledger(Run(tmp_path / "run"))):
        with pytest.raises(InputError, match=r"ledger\.jsonl: cannot be written"):
            call()


def test_looking_for_a_ledger_makes_none(tmp_path):
    looks(tmp_path, "cases")
    assert not (tmp_path / FILE).exists()


def _many(folder, name):
    for number in range(20):
        enter(folder, model=f"{name}{number}")


def test_runs_at_once_leave_whole_lines_in_one_chain(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_many, args=(tmp_path, name)) for name in "abcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert looks(tmp_path, "cases") == Looks(80, 80, True)
