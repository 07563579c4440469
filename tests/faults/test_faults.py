"""The fault campaign, shortened; `make test-faults` runs all of it."""

from __future__ import annotations

import benches
import campaign
import processes
import pytest
import spoilt
import storage


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> benches.Bench:
    """Images and an undisturbed run."""
    return benches.prepare(tmp_path_factory.mktemp("faults"))


def _survives(*rows: benches.Row) -> None:
    for row in rows:
        assert row.lost == 0, row
        assert row.tries > 0 or "not tried" in row.note


def test_killed(bench: benches.Bench) -> None:
    _survives(processes.kills(bench, 2))


def test_asked_to_leave(bench: benches.Bench) -> None:
    _survives(processes.signals(bench, 1))


def test_interrupted(bench: benches.Bench) -> None:
    _survives(processes.interrupts(bench, 1))


def test_a_group_asked_to_leave(bench: benches.Bench) -> None:
    _survives(processes.group(bench, 1))


def test_full_disk(bench: benches.Bench) -> None:
    _survives(storage.full_disk(bench, "record", 8 << 20, benches.AFTER_TRAINING, 1))


def test_going_back(bench: benches.Bench) -> None:
    _survives(*spoilt.rolled_back(bench, ("update 9",)))


def test_a_folder_that_loses_files(bench: benches.Bench) -> None:
    _survives(storage.files_lost(bench, 1))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_sweep(bench: benches.Bench) -> None:
    _survives(processes.sweep_kills(bench, 10))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_everything(bench: benches.Bench) -> None:
    _survives(*campaign.everything(bench, 20))
