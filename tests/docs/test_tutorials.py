"""The tutorials' commands and Python run in the order of the page, with settings that make the commands small."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from regicomp.data import testsets

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

SIZES = {"photo.png": (96, 64), "photos/a.png": (192, 128), "photos/in/b.png": (128, 192)}

MINUTES = "experiments/short_runs/runs"  # a command that takes half a minute has a test of its own

# What is appended to a command of each kind; the last of two values of a setting counts.
SMALL = {
    "train": (
        *(
            "size=tiny",
            "optimizer=adam",
            "data.crop=64",
            "data.batch_size=2",
            "data.images=2",
            "phases=[]",
            "logger=csv",
        ),
        *("precision=float32", "trainer.max_steps=2", "trainer.log_every_n_steps=1", "evaluation.images=1"),
    ),
    "evaluate": ("images=1",),
    "report": ("--bootstrap", "100", "--images", "0", "--no-classical"),
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block of code that is run."""
    return [(found[1], found[2]) for found in _BLOCK.finditer(page.read_text(encoding="utf-8"))]


def arguments(line: str) -> list[str]:
    """A command line as arguments of `regicomp`: command first."""
    program, *rest = shlex.split(line, comments=True)
    if program == "regicomp":
        return rest
    assert [program, rest[0]] == ["python", "-m"], line
    return [rest[1].removeprefix("regicomp."), *rest[2:]]


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *rest = arguments(line)
    module = importlib.import_module(f"regicomp.{name}" + (".__main__" if name == "report" else ""))
    monkeypatch.setattr(sys, "argv", [f"regicomp {name}", *rest, *SMALL.get(name, ())])
    status: object = None
    try:
        module.main()
    except SystemExit as stopped:
        status = stopped.code
    assert not status, line


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """`run(page)`: run a page of docs/ in a folder with a few pictures; the folder."""
    (cat,) = (photo for photo in testsets.find(["photos"], ".", ())[0].images if photo.name == "cat")
    for name, (width, height) in SIZES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(cat.load()[80 : 80 + height, 120 : 120 + width]).save(path)
    (tmp_path / "holidays").symlink_to("photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in list(sys.modules):
        if name == "mymodel":
            monkeypatch.delitem(sys.modules, name)

    def page(name: str) -> Path:
        for language, text in blocks(ROOT / "docs" / name):
            if saved := re.match(r"# (\w+\.py)\n", text):
                (tmp_path / saved[1]).write_text(text, encoding="utf-8")
            elif language == "python":
                exec(compile(text, name, "exec"), {"__name__": "example"})
            else:
                for line in text.splitlines():
                    if MINUTES not in line:
                        run_command(line, monkeypatch)
        return tmp_path

    return page


def test_quick_start(run: Callable[[str], Path]) -> None:
    folder = run("quickstart.md")
    with Image.open(folder / "back.png") as back, Image.open(folder / "again.png") as again:
        assert back.size == again.size == (96, 64)
    assert list(folder.glob("outputs/evaluate/*/*/results.json"))


def test_first_codec(run: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = run("tutorials/first_codec.md")
    written = {path.name for path in (folder / "outputs/first").iterdir()}
    text = (ROOT / "docs/tutorials/first_codec.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w.]+)/?`", text.split("## What the run leaves")[1].split("The record is")[0])
    assert {name for name in named if "." in name or name == "checkpoints"} - {"trainer.log_every_n_steps"} <= written
    header = (folder / "outputs/first/metrics.csv").read_text().splitlines()[0].split(",")
    shown = re.findall(r"^\| `.*\| (`.*`) \|$", text.split("| shown")[1].split("At the end")[0], re.MULTILINE)
    assert {name.strip("` ") for cell in shown for name in cell.split(",")} <= set(header)
    with Image.open(folder / "back.png") as back:
        assert back.size == (96, 64)
    assert re.search(r"^photos \w+: [\d.]+ bpp, [\d.]+ dB$", capsys.readouterr().out, re.MULTILINE)


def test_own_model(run: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = run("tutorials/own_model.md")
    assert (folder / "photo.rgc").stat().st_size > 0
    pressures = [float(found) for found in re.findall(r"ρ = ([\d.]+)$", capsys.readouterr().out, re.MULTILINE)]
    assert pressures[:2] == [0, 0]
    assert all(rho > 0 for rho in pressures[2:])


def test_sweep(run: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = run("tutorials/sweep.md")
    assert len(list(folder.glob("multirun/mine/*/results.json"))) == 8
    text = (ROOT / "docs/tutorials/sweep.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([\w.]+)`", text.split("and writes")[1].split("A negative")[0]):
        assert (folder / "report" / name).stat().st_size > 0, name
    assert "-1.00 %" in capsys.readouterr().out


@pytest.mark.slow
def test_the_report_of_a_finished_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs/tutorials/sweep.md").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if MINUTES in line)
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    run_command(line, monkeypatch)
    table = (tmp_path / "report_kodak/bd_rate.md").read_text().replace("−", "-")
    assert re.search(r"-0\.24 \[-\d\.\d+, \+\d\.\d+\]", table), table


def test_photos(run: Callable[[str], Path]) -> None:
    folder = run("tutorials/photos.md")
    for out in ("small", "by_quality", "by_rate", "by_psnr", "by_size"):
        assert {path.relative_to(folder / out).as_posix() for path in (folder / out).rglob("*.rgc")} == {
            "a.rgc",
            "in/b.rgc",
        }
    with Image.open(folder / "back/in/b.png") as back:
        assert back.size == (128, 192)
