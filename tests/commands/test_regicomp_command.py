"""`regicomp COMMAND` is `python -m regicomp.COMMAND`."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import regicomp
from regicomp.__main__ import COMMANDS, main, usage

PACKAGE = Path(regicomp.__file__).parent


def test_every_command_is_a_module_and_every_module_a_command() -> None:
    modules = {name.replace("-", "_") for name in COMMANDS}
    found = {p.stem for p in PACKAGE.glob("*.py") if not p.stem.startswith("__")} | {"report", "dashboard"}
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


# Packages that take a second to load, which no command's --help needs.
_SLOW = ("torch", "lightning", "compressai", "scipy", "matplotlib", "wandb", "plotly", "pandas")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_starts_quickly(name: str) -> None:
    """By what it imports, and by processor time, which does not depend on what else the machine does."""
    code = (
        "import atexit, sys, time\nimport regicomp.__main__ as m\n"
        f"atexit.register(lambda: print(*(n for n in {_SLOW} if n in sys.modules), f'{{time.process_time():.2f}}'))\n"
        f"m.main(['{name}', '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *slow, seconds = done.stdout.splitlines()[-1].split()
    assert slow == []
    assert float(seconds) < 2  # 0.3 to 0.5 on an idle core


@pytest.fixture
def program(tmp_path: Path) -> dict[str, str]:
    """An environment with a program `regicomp`, as an installed package has."""
    path = tmp_path / "regicomp"
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m regicomp "$@"\n')
    path.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


@pytest.mark.parametrize("install", ["regicomp -sc install=bash", "regicomp train -sc install=bash"])
def test_the_shell_completes(program: dict[str, str], install: str) -> None:
    script = f"""
eval "$({install})"
complete -p regicomp
for COMP_LINE in "regicomp tr" "regicomp train backbone=e" "regicomp evaluate precisio" "regicomp codec enc"; do
    words=($COMP_LINE); COMP_CWORD=$((${{#words[@]}} - 1)); COMP_POINT=${{#COMP_LINE}}
    COMPREPLY=(); hydra_bash_completion; echo "$COMP_LINE -> ${{COMPREPLY[@]}}"
done
"""
    done = subprocess.run(["bash", "-c", script], env=program, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    registered, *found = done.stdout.splitlines()
    assert registered.endswith("-F hydra_bash_completion regicomp")
    assert found == [
        "regicomp tr -> train",
        "regicomp train backbone=e -> backbone=elic",
        "regicomp evaluate precisio -> precision=",
        "regicomp codec enc -> ",
    ]
