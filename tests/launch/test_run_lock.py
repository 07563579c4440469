"""One process a run directory, and a lock that dies with its holder."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path

import pytest

from regicomp.launch import run_lock


def test_the_second_is_refused_until_the_first_has_left(tmp_path: Path) -> None:
    with (
        run_lock.sole_user(tmp_path),
        pytest.raises(ValueError, match=rf"in use by process {os.getpid()} on"),
        run_lock.sole_user(tmp_path),
    ):
        pass
    with run_lock.sole_user(tmp_path):
        pass


def test_other_ranks_share_the_first_one_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_lock.sole_user(tmp_path):
        monkeypatch.setenv("LOCAL_RANK", "1")
        with run_lock.sole_user(tmp_path):
            pass


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_killed_holder_leaves_no_lock_even_if_its_children_live(tmp_path: Path) -> None:
    ready, told = os.pipe()
    holder = os.fork()
    if not holder:  # takes the lock, forks a child that outlives it (as data workers may), waits to be killed
        with run_lock.sole_user(tmp_path):
            child = os.fork()
            if child:
                os.write(told, child.to_bytes(4, "big"))
            signal.pause()
        os._exit(0)
    child = int.from_bytes(os.read(ready, 4), "big")
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    try:
        with run_lock.sole_user(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_what_a_killed_process_left_half_written_is_cleared(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "checkpoints"):
        folder.mkdir(exist_ok=True)
        (folder / ".results.json.abc.regicomp.tmp").write_text("{")
        (folder / "kept.json").write_text("{}")
    with run_lock.sole_user(tmp_path):
        assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["kept.json", "kept.json", "run.lock"]


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):  # nothing is left that would refuse the second
        with run_lock.sole_user(tmp_path), run_lock.sole_user(tmp_path):
            assert "has no locks" in caplog.text
        caplog.clear()
