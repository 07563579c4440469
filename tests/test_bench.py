"""The benchmark's table: what it says of given measurements, and that it measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import device, rows, table

PROJECT = Path(__file__).resolve().parent.parent


@given(st.floats(0.1, 10), st.floats(0.1, 10))
def test_a_straight_line_is_found(slope: float, constant: float) -> None:
    x = [1.0, 2.0, 4.0, 7.0]
    found = table.straight_line(x, [constant + slope * a for a in x])
    assert found == pytest.approx((slope, constant, 0.0), abs=1e-9)


def _row(measure: str, value: dict[str, Any], **more: Any) -> tuple[str, dict[str, Any]]:
    asked = {"measure": measure, "backbone": "elic", "batch": 4, "crop": 256, "size": "paper", "rounds": 3, **more}
    return json.dumps(asked), value


def test_the_table_shows_speeds_ratios_and_errors() -> None:
    seconds = {"example": 2.0, "plain": 1.0, "regularized": 1.2}
    cost = {"parameters": 32_070_000, "source_parameters": 3_000_000, "gflops": 100.0, "source_gflops": 25.0}
    rows = dict(
        [
            _row("costs", cost),
            _row(
                "steps",
                {"seconds": seconds, "samples_per_second": {k: 4 / v for k, v in seconds.items()}},
                precision="a",
            ),
            _row("memory", {"peak_gib": 1.5, "seconds": 1.0}, precision="a", variant="plain"),
            _row("steps", {"error": "RuntimeError: out of memory"}, precision="b"),
            _row("loading", {"crops_per_second": {"cached": 40.0}}),
            _row("pair", {"plain": 2.0, "regularized": 2.3}, precision="a", optimizer="soap"),
            _row("compiling", {"first_seconds": 50.0, "usual": 1.0, "compiled": 0.5}, precision="a"),
            _row("compiling", {"first_seconds": 50.0, "usual": 1.0, "compiled": 1.1}, precision="b"),
        ]
    )
    commands = {"steps": {"arguments": "--parts steps", "date": "2026-11-23"}}
    shown = table.render({"machine": {"device": "this"}, "commands": commands, "rows": rows})
    assert (
        "| elic | a | 4 × 256² | 2.00 | 4.00 | 3.33 | 2.00 | 1.20 | 32.07 + 3.00 | 100.0 + 25.0 | 25 | - / 1.50 / - |"
        in shown
    )
    assert "out of memory" in shown
    assert "- steps: `python -m bench.table --parts steps`, 2026-11-23" in shown
    assert "| elic | a | 4 × 256² | 2.00 | 2.30 | 1.15 |" in shown
    assert "| cached | 40 | 10.0 |" in shown
    assert "| elic | a | 4 × 256² | 50.0 | 0.500 | 1.000 | 2.00 | 100 |" in shown
    assert "| elic | b | 4 × 256² | 50.0 | 1.100 | 1.000 | 0.91 | never |" in shown


@pytest.mark.slow
def test_it_measures_and_does_not_repeat_itself(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"above\n{table.BEGIN}\nold\n{table.END}\nbelow\n")
    command = [sys.executable, "-m", "bench.table", "--size", "tiny", "--crop", "64", "--batch", "2", "--rounds", "1"]
    command += [
        "--backbones",
        "hyperprior",
        "--parts",
        "costs",
        "steps",
        "scaling",
        "data",
        "--data-crops",
        "4",
        "--crops",
        "64",
        "128",
        "--batches",
        "1",
        "2",
    ]
    command += ["--precisions", "float32", "--out", str(tmp_path)]
    said = [subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=280) for _ in range(2)]
    assert [s.returncode for s in said] == [0, 0], said[0].stderr[-2000:]
    assert "measuring" in said[0].stderr
    assert "measuring" not in said[1].stderr
    readme = (tmp_path / "README.md").read_text()
    assert "\nold\n" not in readme
    assert readme.startswith("above")
    assert "below" in readme
    assert "| hyperprior (tiny) |" in readme
    assert "a megapixel" in readme
    assert "| streamed from shards, 2 workers |" in readme


def test_an_update_is_timed_on_this_device() -> None:
    setting = rows.Setting("hyperprior", "float32", 2, 64, "tiny", optimizer="adam")
    for loop in ("plain", "regularized", "example"):
        row = device.measure(device.Case(setting, loop), skipped=0, counted=2)
        assert set(row) == set(device.COLUMNS)
        assert float(row["mean_ms"]) > 0
    ways = [(case.setting, case.loop) for case in device.cases("paper")]
    assert len(set(ways)) == len(ways)
