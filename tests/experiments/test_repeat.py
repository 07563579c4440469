"""The script that repeats the table trains all that the table is made from, where its records are looked for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser

from experiments.branches import collect
from experiments.kodak import tabulate
from regicomp.config import resolvers, settings

SCRIPT = Path(tabulate.__file__).with_name("repeat.sh")
WHY = collect.EXPERIMENTS / "why" / "repeat.sh"
IMAGES = ("bsds500/train", "bsds500/test", "imagenet1000")


def _commands(script: Path, folder: Path) -> list[list[str]]:
    """The arguments of everything that a script starts, in a folder of its own with data of 20 images."""
    for number in range(20):
        image = folder / "data" / IMAGES[number % 3] / f"it's image {number}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    python = folder / "python"
    python.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" end >> {folder}/said\n")
    python.chmod(0o755)
    env = {"PYTHON": str(python), "PATH": "/usr/bin:/bin", "REGICOMP_DATA": "data", "SEEDS": "0 1 2"}
    subprocess.run([script], env=env, cwd=folder, check=True, timeout=60)
    said = (folder / "said").read_text().removesuffix("end\n").split("\nend\n")
    return [command.splitlines() for command in said]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The arguments of every training behind the table of backbones."""
    return _commands(SCRIPT, tmp_path_factory.mktemp("repeat"))


@pytest.fixture(scope="module")
def why(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]]]:
    """The folder in which the other script ran, and the arguments of everything that it starts."""
    folder = tmp_path_factory.mktemp("why")
    return folder, _commands(WHY, folder)


def _runs(command: list[str]) -> list[Path]:
    """The folder below multirun/ of a training, or of each of a sweep's that has seed 2."""
    assert command[:2] == ["-m", "regicomp.train"]
    given = get_args_parser().parse_args(command[2:])
    assert "ckpt=last" in given.overrides
    overrides = [part for part in given.overrides if not part.startswith(("hydra/", "hydra.launcher", "ckpt="))]
    with initialize_config_dir(str(settings.conf_dir()), version_base="1.3"):
        if not given.multirun:
            composed = compose("train", overrides=overrides, return_hydra_config=True)
            return [Path(composed.hydra.run.dir).relative_to("multirun")]
        single = [part for part in overrides if not part.startswith("reg=")]
        composed = compose("train", overrides=[*single, "seed=2"], return_hydra_config=True)
        params = {**composed.hydra.sweeper.params, **dict(part.split("=", 1) for part in overrides)}
        assert params["seed"] == "0,1,2"
        folder = Path(composed.hydra.sweep.dir).relative_to("multirun")
        if "hydra.sweep.subdir" in params:
            return [folder / composed.hydra.sweep.subdir]
        named = ",".join(sorted(part for part in single if not part.startswith("hydra.")))  # as train.yaml has it
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


def test_every_record_is_made_by_a_script(commands: list[list[str]], why: tuple[Path, list[list[str]]]) -> None:
    """Of branches and of why, whatever the seed."""
    resolvers.register_resolvers()
    runs = [run for command in commands for run in _runs(command)]
    for command in why[1]:
        folder = next((part.partition("=")[2] for part in command if part.startswith("hydra.run.dir=")), None)
        if folder is not None:
            runs.append(Path(folder).relative_to("multirun"))
    measured = [run for run in runs if run.parts[0].startswith("b")]  # the others make q_θ
    made = {_of_any_seed(place) for run in measured for place in collect.places(run.parts[0], run.name)}
    records = [path for room in ("branches", "why") for path in (collect.EXPERIMENTS / room).rglob("runs/*")]
    assert records
    assert {_of_any_seed(str(path.relative_to(collect.EXPERIMENTS))) for path in records if path.is_dir()} <= made


def test_what_is_measured_elsewhere_has_been_trained(
    commands: list[list[str]], why: tuple[Path, list[list[str]]]
) -> None:
    resolvers.register_resolvers()
    runs = {f"multirun/{run}/codec.safetensors" for command in commands for run in _runs(command)}
    named = [part.strip("'") for command in why[1] for part in command if part.startswith("checkpoint=")]
    measured = {part.removeprefix("checkpoint='") for part in named}
    assert measured
    assert {path for path in measured if re.search(r"(seed=|paper_)2/", path)} <= runs


def test_every_command_names_settings_that_there_are(why: tuple[Path, list[list[str]]]) -> None:
    resolvers.register_resolvers()
    with initialize_config_dir(str(settings.conf_dir()), version_base="1.3"):
        for _, module, *overrides in why[1]:
            if module != "regicomp.export" and "seed=1" not in overrides and "seed=2" not in overrides:
                compose(module.rpartition(".")[2], overrides=overrides, return_hydra_config=True)


def _of_any_seed(place: str) -> str:
    return re.sub(r"_\d+$", "", place)


def test_few_images_are_links_to_the_first_of_them(why: tuple[Path, list[list[str]]]) -> None:
    """The ten that every branch has seen are among those of each; a name with blanks and quotes is no obstacle."""
    folders = why[0] / "multirun/few_images"
    found = {path.name: sorted(p.name for p in path.iterdir()) for path in folders.iterdir()}
    counts = {"seen": 10, "10": 10, "50": 20, "400": 20, "1283": 20}
    assert {name: len(names) for name, names in found.items()} == counts
    assert found["seen"] == found["10"]
    assert all(p.resolve().is_file() for p in (folders / "seen").iterdir())
