"""The script that repeats the table trains all that the table is made from, where its records are looked for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from experiments.branches import collect
from experiments.kodak import tabulate
from regicomp.config import resolvers, settings

SCRIPT = Path(tabulate.__file__).with_name("repeat.sh")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The arguments of every training that the script starts."""
    folder = tmp_path_factory.mktemp("repeat")
    python = folder / "python"
    python.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" end >> {folder}/said\n")
    python.chmod(0o755)
    subprocess.run([SCRIPT], env={"PYTHON": str(python), "PATH": "/usr/bin:/bin"}, check=True, timeout=60)
    said = (folder / "said").read_text().removesuffix("end\n").split("\nend\n")
    return [command.splitlines() for command in said]


def _runs(command: list[str]) -> list[Path]:
    """The folder below multirun/ of a training, or of each of a sweep's that has seed 2."""
    assert command[:3] == ["-m", "regicomp.train", "ckpt=last"]
    overrides = [part for part in command[3:] if part != "-m" and not part.startswith(("hydra/", "hydra.launcher"))]
    with initialize_config_dir(str(settings.conf_dir()), version_base="1.3"):
        if "-m" not in command[3:]:
            composed = compose("train", overrides=overrides, return_hydra_config=True)
            return [Path(composed.hydra.run.dir).relative_to("multirun")]
        single = [part for part in overrides if not part.startswith("reg=")]
        composed = compose("train", overrides=[*single, "seed=2"], return_hydra_config=True)
        params = {**composed.hydra.sweeper.params, **dict(part.split("=", 1) for part in overrides)}
        assert params["seed"] == "0,1,2"
        folder = Path(composed.hydra.sweep.dir).relative_to("multirun")
        if "hydra.sweep.subdir" in params:
            return [folder / composed.hydra.sweep.subdir]
        backbone = f"backbone={params['backbone']}," if "backbone" in params else ""
        named = f"{backbone}experiment={params['experiment']}"
        return [folder / f"{named},reg={reg},seed=2" for reg in params["reg"].split(",")]


def test_every_arm_of_every_backbone_is_trained(commands: list[list[str]]) -> None:
    resolvers.register_resolvers()
    runs = [run for command in commands for run in _runs(command)]
    assert len(runs) == len(set(runs))
    trained = {place for run in runs for place in collect.places(run.parts[0], run.name)}
    for backbone in tabulate.BACKBONES:
        folder = backbone.folder.relative_to(collect.EXPERIMENTS)
        assert f"{folder}/made/source" in trained
        for arm in ("plain", "paper", "control_paper"):
            assert f"{folder}/runs/{arm}_2" in trained, backbone.name


def test_a_script_for_one_backbone_trains_that_alone(tmp_path: Path) -> None:
    echo = shutil.which("echo")
    assert echo is not None
    done = subprocess.run(
        [SCRIPT, "elic"],
        env={"PYTHON": echo, "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()
    assert all("backbone=elic" in line for line in done.stdout.splitlines())
