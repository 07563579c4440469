"""Files are written whole or not at all, and a user's mistake is one line."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regicomp.utils import cli, files


def test_writing_replaces_the_whole_file(tmp_path: Path) -> None:
    files.write_json(tmp_path / "new" / "a.json", {"a": 1})
    files.write_json(tmp_path / "new" / "a.json", {"b": "é"})
    assert (tmp_path / "new" / "a.json").read_text(encoding="utf-8") == '{"b": "é"}\n'
    assert os.listdir(tmp_path / "new") == ["a.json"]


_PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.recursive(_PLAIN, lambda part: st.lists(part) | st.dictionaries(st.text(), part), max_leaves=20))
def test_what_is_laid_out_reads_back(value: object) -> None:
    assert json.loads(files.laid_out(value)) == value


def test_a_table_has_a_line_a_row() -> None:
    rows = [{"name": "a", "bpp": 0.5}, {"name": "b", "bpp": 0.25}]
    assert files.laid_out({"bpp": 0.375, "psnr_db": 30.0, "images": rows, "seed": 0}).splitlines() == [
        "{",
        ' "bpp": 0.375, "psnr_db": 30.0,',
        ' "images": [',
        '  {"name": "a", "bpp": 0.5},',
        '  {"name": "b", "bpp": 0.25}',
        " ],",
        ' "seed": 0',
        "}",
    ]


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "results.json"
    files.write_bytes(path, b"old")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if moment != "write":
        monkeypatch.setattr(os, moment, full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(path, full if moment == "write" else lambda file: file.write(b"new"))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["results.json"]


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", float("nan"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError("`reg.alpha` (=-1)\n must be 0"), OSError(28, "No space left on device")])
def test_mistakes_are_told_in_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, cli.told_in_one_line():
        raise error
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1


def test_the_traceback_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="why"), cli.told_in_one_line():
        raise ValueError("why")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_keep_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        files.write_bytes(tmp_path / "a", b"1")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode
