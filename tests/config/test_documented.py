"""Every setting is documented where it stands and listed by --help; evaluation's are checked as training's are."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from regicomp.config import measurement, schema, settings
from regicomp.launch import help


def _lines(path: Path) -> list[tuple[int, str]]:
    return [(n, line) for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if line.strip()]


def test_every_file_and_key_of_the_configuration_is_documented() -> None:
    """A file begins with a comment; every key of a group's own file has one beside it (experiments only override)."""
    files = sorted(settings.conf_dir().rglob("*.yaml"))
    assert len(files) > 10
    for path in files:
        lines = _lines(path)
        assert lines[0][1].startswith("#"), path
        if path.parent.name == "experiment":
            continue
        inherits = "defaults" in (OmegaConf.load(path) or {}) and path.parent != settings.conf_dir()
        for number, line in lines:
            key = re.match(r"\s*(\w+): *[^ #]", line)
            hydra_s_own = key and key[1] in ("dir", "subdir", "_target_", "distortion", "devices")
            if key and not hydra_s_own and not inherits:
                assert "# " in line, f"{path.name}:{number}: {line.strip()} has no comment"


@pytest.mark.parametrize("command", [help.TRAIN, help.EVALUATE])
def test_help_says_what_to_type(command: help.Command, composed: Callable[..., DictConfig]) -> None:
    said = help.text(command)
    assert said.startswith(command.does)
    assert len(command.examples) == 5
    assert "${" not in said  # no resolver
    cls = settings.Settings if command is help.TRAIN else measurement.Measurement
    missing = {name for name in schema.names(cls) if f"  {name}=" not in said}
    assert missing <= {"backbone._target_", "source._target_", "optimizer.momentum", "optimizer.every", *RATE}


RATE = {"rate.lambdas", "rate.gains", "rate.gains_lr", "rate.kind"}  # of rate=variable


def test_evaluation_s_settings_are_checked_as_training_s_are(composed: Callable[..., DictConfig]) -> None:
    def measured(*overrides: str) -> measurement.Measurement:
        return measurement.resolve(composed("checkpoint=x", *overrides, name="evaluate", tiny=False))

    assert measured("data=folder", "testsets=[kodak]").data.train_dir is None  # is not read
    for wrong, named in (
        ("workers=0", "workers"),
        ("threads=3", "threads"),
        ("+testset=x", "the nearest is `testsets`"),
    ):
        with pytest.raises(ValueError, match=named):
            measured(wrong)
    with pytest.raises(ValueError, match="at least one test set"):
        measured("testsets=[]")
