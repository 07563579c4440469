"""A sweep's dashboard is described without a network: its panels name what runs log, its table is the report's."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import synthetic

from regicomp.report import dashboard
from regicomp.training.loggers import COLUMNS

needs_workspaces = pytest.mark.skipif(
    "not __import__('importlib.util').util.find_spec('wandb_workspaces')",
    reason="wandb-workspaces is in the extra regicomp[dashboard]",
)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The description of a sweep's report, as it would be sent."""
    folder = tmp_path_factory.mktemp("dashboard")
    synthetic.sweep(folder / "mine", testsets=("kodak", "ood/art"), jitter=0.0)
    assert dashboard.main([str(folder / "mine"), "--project", "codecs", "--out", str(folder / "spec.json")]) == 0
    return json.loads((folder / "spec.json").read_text())


def _panels(described: dict[str, Any]) -> list[dict[str, Any]]:
    grids = [block["metadata"] for block in described["blocks"] if block["type"] == "panel-grid"]
    assert len(grids) == 3
    for grid in grids:
        (runs,) = grid["runSets"]
        (chosen,) = runs["filters"]["filters"]
        assert (chosen["key"]["name"], chosen["op"], chosen["value"]) == ("group", "=", "mine")
    return [panel for grid in grids for panel in grid["panelBankSectionConfig"]["panels"]]


@needs_workspaces
def test_panels_name_what_runs_log(described: dict[str, Any]) -> None:
    panels = _panels(described)
    kinds = [panel["viewType"] for panel in panels]
    assert kinds.count("Scatter Plot") == 4  # two test sets in PSNR and MS-SSIM
    text = json.dumps(panels)
    for name in ("kodak", "ood/art"):
        for metric in ("bpp", "psnr_db", "ms_ssim_db"):
            assert f"{name}/{metric}" in text
    lines = [panel["config"]["metrics"] for panel in panels if panel["viewType"] == "Run History Line Plot"]
    assert {metric for metrics in lines for metric in metrics} <= set(COLUMNS)
    assert "summary" in json.dumps([panel for panel in panels if panel["viewType"] == "Media Browser"])


@needs_workspaces
def test_the_table_is_the_report_s(described: dict[str, Any]) -> None:
    (table,) = [block for block in described["blocks"] if block["type"] == "markdown-block"]
    assert "BD-rate in percent against α = 0" in table["content"]
    assert "−2.0" in table["content"]


@needs_workspaces
def test_without_a_key_saving_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = synthetic.sweep(tmp_path / "mine", qualities=(1, 2))
    for name in ("WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SystemExit) as left:
        dashboard.main([str(sweep), "--entity", "me", "--save"])
    told = capsys.readouterr().err
    assert left.value.code == 2
    assert told.startswith("error: W&B did not take the report: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [([], "nothing to do: give `--save`, or `--out FILE`"), (["--save"], "`--save` needs `--entity`")],
)
def test_what_is_lacking_is_told(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        dashboard.main(["sweep", *arguments])
    assert told in capsys.readouterr().err


def test_without_the_package_its_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces.expr", None)
    with pytest.raises(SystemExit):
        dashboard.main([str(tmp_path), "--out", str(tmp_path / "spec.json")])
    assert "pip install 'regicomp[dashboard]'" in capsys.readouterr().err
