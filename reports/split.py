"""Train and test: what the tested split shares with what the model learnt from, and how it differs.

Ids of leaking cases stay in the run folder's manifest.json; no report names a case.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from robustbench_med.reports.document import Evidence, Section, Table
from robustbench_med.reports.wording import (
    DASH,
    count,
    label,
    number,
    plain_count,
    share,
    split_called,
)

LEVEL = 0.05
SHOWN = 30
GOOD = 0.9
TITLE = "Train and test"
KINDS = {
    "patient": ("patient in both splits", "the same patient id"),
    "identical": ("identical image", "the same values under another patient's id"),
    "near": ("changed copy", "another patient's image, turned, recompressed, resized or cropped"),
}
NOT_ASKED = (
    "The plan named no split that the model learnt from, so it is not known whether patients or "
    'images of this test were learnt by heart. To find out, write against = "train" in the plan.'
)


def split(evidence: Evidence) -> Section:
    """Leaks and how surely they would be found, differences, and what goes with the label."""
    audit = evidence.manifest.get("split")
    if not audit:
        return Section("split", TITLE, (NOT_ASKED,))
    paragraphs = (
        _verdict(audit), _sureness(audit), *_within(audit), _differences(audit),
        _apart(audit), _confounded(audit["confounding"]),
    )  # fmt: skip
    tables = (
        _leaks(audit), _planted(audit), _distances(audit, ("attributes", "labels")),
        _values(audit), _confounding(audit), _distances(audit, ("features",)),
    )  # fmt: skip
    return Section("split", TITLE, paragraphs, (), tuple(table for table in tables if table.rows))


def _other(audit: Mapping[str, Any]) -> str:
    return split_called(audit.get("against", "train"))


def _verdict(audit: Mapping[str, Any]) -> str:
    leaks, test, train = audit["leaks"], audit["test"], audit["train"]
    other = _other(audit)
    known = f"{train['cases']} {other} cases of {count(train['patients'])} patients"
    if not leaks["cases"]:
        copies = "" if leaks["near"]["reason"] else " or a changed copy of one"
        return (
            f"No leak was found: none of {test['cases']} test cases is of a patient, or shows an "
            f"image{copies}, among {known}."
        )
    counts = leaks["counts"]
    found = ", ".join(f"{KINDS[kind][0]}: {counts[kind]['cases']}" for kind in KINDS)
    return (
        f"LEAK: {leaks['cases']} of {test['cases']} test cases are known from {known} ({found}). "
        "On these the model may answer from memory: take them out of one split and run again. "
        "Their ids are in the run folder's manifest.json, under split, leaks, listed."
    )


def leak(manifest: Mapping[str, Any]) -> str:
    """The leak in one paragraph; empty where none was found, or none was looked for."""
    audit = manifest.get("split")
    return _verdict(audit) if audit and audit["leaks"]["cases"] else ""


def _sureness(audit: Mapping[str, Any]) -> str:
    near = audit["leaks"]["near"]
    if near["reason"]:
        return f"Changed copies were not looked for: {label(near['reason'], 160)}."
    found, planted = (sum(pair[i] for pair in near["planted"].values()) for i in (0, 1))
    poor = [
        f"{label(change)} ({hits} of {copies})"
        for change, (hits, copies) in near["planted"].items()
        if hits < GOOD * copies
    ]
    missed = f" Poorly found: {_listed(poor)}." if poor else ""
    return (
        f"How sure that is: of {planted} planted copies of {_other(audit)} images, {found} were "
        f"found ({share(found, planted)}), and the limit is set so that fewer than one audit in "
        f"twenty mistakes two patients' images for copies.{missed} Larger crops, small rotations, "
        "inverted greys and other scans of the same patient under another id are not looked for."
    )


def _within(audit: Mapping[str, Any]) -> tuple[str, ...]:
    pairs, near = sum(audit["leaks"]["within"].values()), audit["leaks"]["near"]
    said = []
    if pairs:
        said.append(
            f"Inside the test split, {pairs} pairs of images under different patient ids are the "
            "same image or a copy of it. Counted as two patients, they make intervals too narrow."
        )
    if near["doubled"]:
        said.append(
            f"Of {near['unrelated'] + near['doubled']} {_other(audit)} images that were drawn, "
            f"{near['doubled']} have a copy under another patient's id inside that split."
        )
    return tuple(said)


def _differences(audit: Mapping[str, Any]) -> str:
    rows = [*audit["attributes"], *audit["labels"]]
    real = [label(row["name"], 30) for row in rows if _is_real(row)]
    if real:
        return (
            f"The tested patients are not like the {_other(audit)} patients in {_listed(real)}. "
            "The results hold for patients like the tested ones."
        )
    return (
        "No difference in recorded attributes or truth was found between the splits. The table "
        "says how large a difference chance alone makes; a smaller one cannot be found here."
    )


def _apart(audit: Mapping[str, Any]) -> str:
    apart = audit["separation"]
    if apart is None:
        return "Too few patients to ask whether the images of the two splits are alike."
    found, chance = (f"{100 * apart[key]:.0f}" for key in ("auc", "chance"))
    asked = (
        "A simple classifier saw only brightness, contrast, sharpness, noise, colour and size of "
        f"the images. Shown one test and one {_other(audit)} patient, it named the right one "
        f"{found} times in 100; guessing gives 50, and by chance up to {chance}"
    )
    if apart["p"] >= LEVEL:
        return f"{asked}. It could not tell the splits' images apart."
    real = [_direction(row) for row in audit["features"] if _is_real(row)]
    most = f" Most of all they differ in {_listed(real)}." if real else ""
    return f"{asked}: the images of the two splits are not alike.{most}"


def _direction(row: Mapping[str, Any]) -> str:
    way = "higher" if (row["distance"] or 0) > 0 else "lower"
    return f"{label(row['name'], 30)} ({way} in the test)"


def _confounded(pairs: Sequence[Mapping[str, Any]]) -> str:
    real = [f"{label(pair['attribute'], 30)} goes with {label(pair['label'], 30)}"
            for pair in _sorted(pairs) if _is_real(pair)]  # fmt: skip
    if not real:
        return (
            "No recorded attribute was found to go with the truth among the tested patients. The "
            "table says how closely they go together by chance; less cannot be found here."
        )
    return (
        f"Among the tested patients, {_listed(real)}: a gap between such groups may be a gap "
        "between labels."
    )


def _leaks(audit: Mapping[str, Any]) -> Table:
    leaks = audit["leaks"]
    looked = ["patient", "identical", *([] if leaks["near"]["reason"] else ["near"])]
    rows = tuple(
        (*KINDS[kind], plain_count(leaks["counts"][kind]["cases"]),
         plain_count(leaks["counts"][kind]["patients"]))
        for kind in looked
    )  # fmt: skip
    tones = tuple("warning" if leaks["counts"][kind]["cases"] else "" for kind in looked)
    blank = leaks["blank"]["test"]
    left_out = f"; {blank} test images of one grey value are not compared" if blank else ""
    return Table(
        f"Leaks from the {_other(audit)} split into the test{left_out}",
        ("Leak", "What it means", "Test cases", "Test patients"), rows, tones,
    )  # fmt: skip


def _planted(audit: Mapping[str, Any]) -> Table:
    near = audit["leaks"]["near"]
    rows = tuple(
        (label(change), plain_count(planted), plain_count(found), share(found, planted))
        for change, (found, planted) in near["planted"].items()
    )
    caption = (
        f"Planted copies. Two images are copies from an agreement of {number(near['limit'])} of "
        f"their details on; the most alike images of two patients typically reach "
        f"{number(near['typical'])}"
    )
    return Table(caption, ("Change", "Planted", "Found", "Share found"), rows)


def _distances(audit: Mapping[str, Any], tables: Sequence[str]) -> Table:
    found = [row for table in tables for row in audit[table]]
    rows = tuple(
        (label(row["name"]), "shares" if row["kind"] == "shares" else "mean, in SDs",
         number(row["distance"]), number(row["chance"]), number(row["p"]), number(row["p_holm"]))
        for row in found
    )  # fmt: skip
    what = "Image features" if "features" in tables else "Attributes and truth"
    caption = (
        f"{what}, test against {_other(audit)}: share of patients that would have to change, or "
        "difference of means in standard deviations, positive where the test is higher"
    )
    columns = ("Of", "Compared", "Distance", "By chance up to", "p", "p adjusted")
    return Table(caption, columns, rows, tuple("warning" if _is_real(row) else "" for row in found))


def _values(audit: Mapping[str, Any]) -> Table:
    rows = tuple(
        (label(row["name"]), *cells)
        for row in (*audit["attributes"], *audit["labels"])
        for cells in _cells(row)
    )
    caption = (
        "Patients by value; fewer than 10 are not counted out, and a patient whose cases differ "
        "counts in shares"
    )
    other = _other(audit)
    other = f"{other[:1].upper()}{other[1:]}"
    columns = ("Of", "Value", "Test", "Test patients", other, f"{other} patients")
    return Table(caption, columns, rows)


def _cells(row: Mapping[str, Any]) -> list[tuple[str, ...]]:
    if row["kind"] == "shares":
        return [
            (label(value["value"], 40), *_side(value, "test"), *_side(value, "train"))
            for value in row["values"]
        ]
    return [("median, 90% within", *_spread(row["test"]), *_spread(row["train"]))]


def _side(value: Mapping[str, Any], name: str) -> tuple[str, str]:
    if value[name] is None:
        return DASH, "<10"
    return share(value[name], 1), plain_count(value[f"{name}_patients"])


def _spread(side: Mapping[str, Any] | None) -> tuple[str, str]:
    if side is None:
        return DASH, "<10"
    within = f"{number(side['low'])} to {number(side['high'])}"
    return f"{number(side['median'])}, {within}", plain_count(side["patients"])


def _confounding(audit: Mapping[str, Any]) -> Table:
    pairs = _sorted(audit["confounding"])[:SHOWN]
    rows = tuple(
        (label(pair["attribute"]), label(pair["label"]), number(pair["v"]), number(pair["chance"]),
         number(pair["p"]), number(pair["p_holm"]), count(pair["patients"]))
        for pair in pairs
    )  # fmt: skip
    hidden = len(audit["confounding"]) - len(pairs)
    more = f"; {hidden} weaker pairs are in manifest.json" if hidden else ""
    caption = (
        "Attributes against the truth among the tested patients: Cramer's V, 0 for nothing in "
        f"common, 1 where one gives the other away; numbers in quarters{more}"
    )
    columns = ("Attribute", "Truth", "V", "By chance up to", "p", "p adjusted", "Patients")
    return Table(caption, columns, rows, tuple("warning" if _is_real(p) else "" for p in pairs))


def _sorted(pairs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(pairs, key=lambda pair: (pair["p_holm"], -pair["v"]))


def _is_real(row: Mapping[str, Any]) -> bool:
    return bool(row["p_holm"] < LEVEL)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
