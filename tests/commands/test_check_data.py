"""`python -m regicomp.check_data` says before a run what the run would say."""

from __future__ import annotations

import json
from pathlib import Path

import bad_images
import pytest

from regicomp import check_data
from regicomp.data import images


def test_every_kind_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "images", tmp_path / "report.json"
    folder.mkdir()
    bad_images.make(folder)
    (folder / "film.gif").write_bytes(b"GIF89a")
    assert check_data.main([str(folder), "--out", str(out), "--crop", "64", "--jobs", "2"]) == 1
    told = capsys.readouterr().out
    total, refused = 1 + len(bad_images.REFUSED) + len(bad_images.NOTED), len(bad_images.REFUSED)
    assert f"{total - refused} of {total} images are used in training, {refused} are refused" in told
    report = json.loads(out.read_text())
    assert report["images"] == total
    assert report["used"] == total - refused
    assert report["other_files"] == {".gif": 1}
    found = {Path(f["path"]).name: kind for kind, entries in report["refused"].items() for f in entries}
    assert found == bad_images.REFUSED
    assert set(report["refused"]) == set(images.REFUSED)
    noted = {Path(f["path"]).name: kind for kind, entries in report["noted"].items() for f in entries}
    assert noted == bad_images.NOTED
    for kind in {*bad_images.REFUSED.values(), *bad_images.NOTED.values(), ".gif"}:
        assert kind in told
    deep = report["refused"]["deep"][0]
    assert "has more than 8 bits a sample" in deep["message"]


def test_a_clean_folder_is_told_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_data.main([str(folder), "--crop", "64", "--jobs", "1"]) == 0
    assert "6 of 6 images are used" in capsys.readouterr().out
    assert check_data.main([str(folder), "--crop", "128", "--jobs", "1"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/nowhere"], "/nowhere does not exist"),
        ([".", "--crop", "0"], "`--crop` (=0)"),
        ([".", "--jobs", "0"], "`--jobs`"),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as end:
        check_data.main(arguments)
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
