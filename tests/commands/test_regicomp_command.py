"""`regicomp COMMAND` is `python -m regicomp.COMMAND`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import regicomp
from regicomp.__main__ import COMMANDS, main, usage

PACKAGE = Path(regicomp.__file__).parent


def test_every_command_is_a_module_and_every_module_a_command() -> None:
    modules = {name.replace("-", "_") for name in COMMANDS}
    found = {p.stem for p in PACKAGE.glob("*.py") if not p.stem.startswith("__")} | {"report"}
    assert modules == found


def test_help_without_torch_or_hydra() -> None:
    code = "import sys, regicomp.__main__ as m; m.main(['--help']); assert not {'torch', 'hydra'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == usage()


def test_a_command_takes_its_own_arguments(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "regicomp", "codec", "info", str(tmp_path / "none.rgc")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "none.rgc" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "did you mean train?" in capsys.readouterr().err
