"""Checkpoints: found, refused, fallen back from."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regicomp.training import checkpoint_file, checkpointing

IDENTITY = {"backbone": "compressai.models.ScaleHyperprior", "configuration": "abc"}


def _write(folder: Path, step: int, identity: dict[str, str] | None = None) -> Path:
    path = folder / f"step-{step:09d}.ckpt"
    state = {"weights": torch.arange(4.0) + step, "guard.lowered": torch.zeros(()), "guard.row": torch.zeros(())}
    state["guard.longest"] = torch.zeros(())
    content = {"global_step": step, "regicomp": identity or IDENTITY, "state_dict": state}
    checkpoint_file.AtomicCheckpointIO().save_checkpoint(content, path)
    return path


def test_last_is_the_newest(tmp_path: Path) -> None:
    assert checkpointing.find("last", tmp_path, IDENTITY) is None
    _write(tmp_path, 900)
    newest = _write(tmp_path, 1000)
    assert checkpointing.find("last", tmp_path, IDENTITY) == newest
    assert checkpoint_file.read(newest)["global_step"] == 1000


def test_a_corrupt_newest_is_named_and_the_one_before_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before, newest = _write(tmp_path, 1), _write(tmp_path, 2)
    newest.write_bytes(newest.read_bytes()[:100])
    assert checkpointing.find("last", tmp_path, IDENTITY) == before
    assert newest.name in caplog.text


def test_a_new_run_does_not_overwrite_another(tmp_path: Path) -> None:
    assert checkpointing.find(None, tmp_path, IDENTITY) is None
    _write(tmp_path, 1)
    with pytest.raises(ValueError, match="already holds a run; ckpt=last"):
        checkpointing.find(None, tmp_path, IDENTITY)


def test_another_backbone_s_checkpoint_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, 1, {**IDENTITY, "backbone": "compressai.models.Cheng2020Attention"})
    for setting in ("last", str(path)):
        with pytest.raises(ValueError, match="of another run: its backbone is"):
            checkpointing.find(setting, tmp_path, IDENTITY)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file"):
        checkpointing.find(str(tmp_path / "a.ckpt"), tmp_path, IDENTITY)
    torch.save({"weights": torch.zeros(1)}, tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match="ends without a checksum"):
        checkpointing.find(str(tmp_path / "foreign.ckpt"), tmp_path, IDENTITY)
    checkpoint_file.write({"weights": torch.zeros(1)}, tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match=r"must be a checkpoint of regicomp\.train"):
        checkpointing.find(str(tmp_path / "foreign.ckpt"), tmp_path, IDENTITY)


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("owned", "w"))


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint_file.write({"regicomp": _Trap()}, tmp_path / "trap.ckpt")  # its checksum is right
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint_file.read(tmp_path / "trap.ckpt")
    assert not (tmp_path / "owned").exists()


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    """Also inside a tensor, where torch.load sees nothing wrong; the file stays a valid ZIP archive."""
    before, newest = _write(tmp_path, 1), _write(tmp_path, 2)
    content = newest.read_bytes()
    assert zipfile.is_zipfile(newest)
    for position in [*range(0, len(content), 97), *range(len(content) - 60, len(content))]:
        spoilt = bytearray(content)
        spoilt[position] ^= 1
        newest.write_bytes(spoilt)
        with pytest.raises(ValueError, match="cannot be read"):
            checkpoint_file.read(newest)
    assert checkpointing.find("last", tmp_path, IDENTITY) == before
    newest.write_bytes(content)
    assert checkpointing.find("last", tmp_path, IDENTITY) == newest


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=300), st.integers(0, 10**9))
def test_a_cut_or_lengthened_file_is_noticed(tail: bytes, cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = _write(Path(folder), 1)
        content = path.read_bytes()
        for spoilt in (content[: cut % len(content)], content + tail):
            path.write_bytes(spoilt)
            with pytest.raises(ValueError, match="cannot be read"):
                checkpoint_file.read(path)


def test_no_readable_checkpoint_is_an_error_not_a_new_run(tmp_path: Path) -> None:
    for step in (1, 2):
        _write(tmp_path, step).write_bytes(b"PK")
    with pytest.raises(ValueError, match="none of the 2 checkpoints"):
        checkpointing.find("last", tmp_path, IDENTITY)


def _change(path: Path, name: str, value: float) -> None:
    checkpoint = checkpoint_file.read(path)
    checkpoint["state_dict"][name] = torch.full_like(checkpoint["state_dict"][name], value)
    checkpoint_file.write(checkpoint, path)


def test_a_checkpoint_with_nan_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before, newest = _write(tmp_path, 1), _write(tmp_path, 2)
    _change(newest, "weights", float("nan"))
    assert checkpointing.find("last", tmp_path, IDENTITY) == before
    assert newest.name in caplog.text


def test_going_back_passes_over_what_is_not_good(tmp_path: Path) -> None:
    good, skipping, spoilt = (_write(tmp_path, step) for step in (1, 2, 3))
    _change(skipping, "guard.row", 4)
    _change(spoilt, "weights", float("inf"))
    assert checkpointing.roll_back(tmp_path) == good
    assert [p.name for p in tmp_path.iterdir()] == [good.name]
    assert float(checkpoint_file.read(good)["state_dict"]["guard.lowered"]) == 1
    _change(good, "weights", float("nan"))
    assert checkpointing.roll_back(tmp_path) is None
    assert not list(tmp_path.iterdir())
