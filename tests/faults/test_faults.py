"""The fault campaign, shortened; `make test-faults` runs all of it."""

from __future__ import annotations

import campaign
import pytest


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> campaign.Bench:
    """Images and an undisturbed run."""
    return campaign.prepare(tmp_path_factory.mktemp("faults"))


def _survives(*rows: campaign.Row) -> None:
    for row in rows:
        assert row.lost == 0, row
        assert row.tries > 0 or "not tried" in row.note


def test_killed(bench: campaign.Bench) -> None:
    _survives(campaign.kills(bench, 2))


def test_asked_to_leave(bench: campaign.Bench) -> None:
    _survives(campaign.signals(bench, 1))


def test_full_disk(bench: campaign.Bench) -> None:
    _survives(campaign.full_disk(bench, "record", 8 << 20, campaign.AFTER_TRAINING, 1))


def test_going_back(bench: campaign.Bench) -> None:
    _survives(*campaign.rolled_back(bench, ("update 9",)))


def test_a_folder_that_loses_files(bench: campaign.Bench) -> None:
    _survives(campaign.files_lost(bench, 1))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_sweep(bench: campaign.Bench) -> None:
    _survives(campaign.sweep_kills(bench, 10))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_everything(bench: campaign.Bench) -> None:
    _survives(*campaign.everything(bench, 20))
