"""From a checkpoint into a session and back; which checkpoints belong to it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from robustbench_med.cases import Cohort
from robustbench_med.errors import InputError
from robustbench_med.training import checkpoint
from robustbench_med.training.card import cohort_digest
from robustbench_med.training.checkpoint import Checkpoint, Kept, Row
from robustbench_med.training.session import Session
from robustbench_med.training.weights import network_digest


def identity(session: Session, cohorts: Sequence[Cohort]) -> dict[str, object]:
    """All that decides the weights after an epoch; the network must be as it was built."""
    settings = session.settings
    told = settings.described() | {
        "cohort": cohort_digest(cohorts[0]),
        "initial network": network_digest(session.model.network),
        "processes": session.processes.count,
    }
    if settings.schedule == "constant":
        del told["epochs"]  # more epochs continue the same training
    del told["validation"]  # the split's name; its cases decide only when to stop
    if settings.patience is not None:
        told["validation"] = cohort_digest(cohorts[1])
    return told


def resume(
    session: Session, folder: Path, needed: Mapping[str, object]
) -> tuple[list[Row], Kept | None]:
    """Put the checkpoint in `folder`, if there is one, into the session.

    Returns:
        The curve so far, and the weights of the lowest validation loss if they are kept.
    """
    found = checkpoint.load(folder)
    if found is None:
        return [], None
    checkpoint.refuse_another(folder, found, needed)
    if len(found.curve) > session.settings.epochs:
        raise InputError(
            f"{folder}: the checkpoint there is at epoch {len(found.curve)}, beyond epochs = "
            f"{session.settings.epochs}; ask for more epochs, or delete the folder to start anew"
        )
    session.model.network.load_state_dict(found.kept["epoch"].weights)
    session.optimiser.load_state_dict(found.optimiser)
    if found.scaler:  # a checkpoint from a CPU has none
        session.scaler.load_state_dict(found.scaler)
    if session.average is not None:
        session.average.resume(found.kept["average"].weights, found.steps, session.device)
    return found.curve, found.kept.get("best")


def snapshot(
    session: Session, needed: Mapping[str, object], curve: list[Row], best: Kept | None
) -> Checkpoint:
    """What a checkpoint keeps of the session."""
    kept = {"epoch": Kept(len(curve), session.model.network.state_dict())}
    if session.average is not None:
        kept["average"] = Kept(len(curve), session.average.weights)
    if best is not None:
        kept["best"] = best
    return Checkpoint(
        needed,
        curve,
        kept,
        session.optimiser.state_dict(),
        session.scaler.state_dict(),
        session.average.steps if session.average is not None else 0,
    )
