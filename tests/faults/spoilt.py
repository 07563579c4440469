"""Faults of numbers: NaN and infinity in the loss, in gradients and in a checkpoint."""

from __future__ import annotations

import harness
import injections
from benches import AFTER_TRAINING, Bench, Row, finite

from regicomp.training import checkpoint_file, nonfinite_guard


def spoilt_numbers(bench: Bench) -> list[Row]:
    """NaN and infinity in the loss and in the gradients of φ and θ."""
    rows: list[Row] = []
    for name, inject in (
        ("NaN in the loss", injections.nan_in_loss),
        ("NaN in the gradient of φ", injections.nan_in_phi),
        ("NaN in the gradient of θ", injections.nan_in_theta),
        ("infinity in the gradient of θ", injections.inf_in_theta),
    ):
        tiny = bench.tiny(inject.__name__)
        said = harness.finish(tiny, before=inject)
        good = finite(tiny.run) and harness.record(tiny.run)["run"]["skipped_updates"] == 2 and "skipped" in said
        rows.append(Row(f"{name}, 2 updates", 1, int(good), "skipped for both networks, counted, told; weights finite"))
    return rows


def rolled_back(bench: Bench, whence: tuple[str, ...] = ("update 9", "the start")) -> list[Row]:
    """NaN in every gradient: the run goes back to the last good checkpoint, or to the start."""
    injected = {"update 9": injections.nan_for_long, "the start": injections.nan_from_the_start}
    rows: list[Row] = []
    for name in whence:
        inject = injected[name]
        tiny = bench.tiny(inject.__name__)
        said = harness.finish(tiny, "guard.patience=4", before=inject)
        good = "going back" in said and harness.record(tiny.run)["run"]["rollbacks"] == 1 and finite(tiny.run)
        rows.append(
            Row(f"NaN in every gradient from {name} on", 1, int(good), "gone back, α and rates halved, finished")
        )
    return rows


def stopped(bench: Bench) -> Row:
    """NaN in every gradient with guard.action=stop: an error in one line, and a checkpoint to go on from."""
    tiny = bench.tiny("stopped")
    process = harness.start(tiny, "guard.patience=4", "guard.action=stop", before=injections.nan_for_long)
    told = process.wait() == 2 and "lower `reg.alpha`" in process.said() and "Traceback" not in process.said()
    usable = nonfinite_guard.is_good(checkpoint_file.read(max((tiny.run / "checkpoints").iterdir()))["state_dict"])
    return Row("the same with guard.action=stop", 1, int(told and usable), "exit 2, one line; checkpoint good")


def nan_in_checkpoint(bench: Bench) -> Row:
    """A number of the newest checkpoint is NaN, its checksum right: named, and the one before used."""
    tiny = bench.copy("nan-checkpoint", *AFTER_TRAINING)
    newest = max((tiny.run / "checkpoints").iterdir())
    checkpoint = checkpoint_file.read(newest)
    weight = next(t for n, t in checkpoint["state_dict"].items() if n.endswith("weight"))
    weight[(0,) * weight.ndim] = float("nan")
    checkpoint_file.write(checkpoint, newest)
    named = newest.name in harness.finish(tiny)
    good = named and not harness.differences(tiny.run, bench.reference)
    return Row("NaN in the newest checkpoint", 1, int(good), "named, the one before used; the same bits")
