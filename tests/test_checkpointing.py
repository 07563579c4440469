"""Checkpoints: found, refused, fallen back from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regicomp import checkpointing

IDENTITY = {"backbone": "compressai.models.ScaleHyperprior", "configuration": "abc"}


def _write(folder: Path, step: int, identity: dict[str, str] | None = None) -> Path:
    path = folder / f"step-{step:09d}.ckpt"
    content = {"global_step": step, "regicomp": identity or IDENTITY, "weights": torch.arange(4)}
    checkpointing.AtomicCheckpointIO().save_checkpoint(content, path)
    return path


def test_last_is_the_newest(tmp_path: Path) -> None:
    assert checkpointing.find("last", tmp_path, IDENTITY) is None
    _write(tmp_path, 900)
    newest = _write(tmp_path, 1000)
    assert checkpointing.find("last", tmp_path, IDENTITY) == newest
    assert checkpointing.read(newest)["global_step"] == 1000


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
    with pytest.raises(ValueError, match=r"must be a checkpoint of regicomp\.train"):
        checkpointing.find(str(tmp_path / "foreign.ckpt"), tmp_path, IDENTITY)


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("owned", "w"))


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"regicomp": _Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(ValueError, match="cannot be read"):
        checkpointing.read(tmp_path / "trap.ckpt")
    assert not (tmp_path / "owned").exists()
