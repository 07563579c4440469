"""The cost of a run and where its time goes, said in advance and while it trains."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import tiny_run

from regicomp.training import cost_estimate, profiling


def _command(folder: Path, *overrides: str) -> list[str]:
    return tiny_run.command(folder, "reg.warmup_steps=0", "strategy=cpu", *overrides)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3.0, "3.0 seconds"), (150.0, "2.5 minutes"), (5 * 3600.0, "5.0 hours"), (9e5, "10.4 days")],
)
def test_spans_of_time(seconds: float, said: str) -> None:
    assert cost_estimate.spell(seconds) == said


def test_a_plan_spends_nothing_and_sums_a_sweep_up(folder: Path, tmp_path: Path) -> None:
    phases = "phases=[{start: 600, batch_size: 4}]"
    command = _command(folder, f"hydra.sweep.dir={tmp_path}", "reg.alpha=0,0.1", "plan=true", phases)
    done = subprocess.run([*command, "trainer.max_steps=1000", "-m"], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    plain, regularized = sorted(
        (json.loads(path.read_text()) for path in tmp_path.rglob("plan.json")), key=lambda p: p["source_parameters"]
    )
    assert done.stdout.count("plan: 0.") == 2
    assert "plan of 2 runs" in done.stdout
    for found in (plain, regularized):
        assert found["crops"] == 600 * 2 + 400 * 4
        assert found["crops_gib"] == pytest.approx(2800 * 3 * 64 * 64 / 2**30)
        assert found["images"] == 6
        assert 0 < found["seconds"] < 1e5
        assert found["memory_gib"] > 0
    assert regularized["pflops"] > plain["pflops"] > 0
    assert plain["source_parameters"] == 0 < regularized["source_parameters"]
    for leftover in ("*.ckpt", "results.json", "metrics.csv", "codec.safetensors"):
        assert not list(tmp_path.rglob(leftover))


def test_a_profile_accounts_for_the_time(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = _command(folder, "profile=true", "trainer.max_steps=30", f"hydra.run.dir={run}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((run / "profile.json").read_text())
    assert report["updates"] == profiling.TIMED
    assert set(report["stages_ms"]) == set(profiling.STAGES)
    assert all(report["stages_ms"][name] > 0 for name in profiling.STAGES[:-1])
    assert sum(report["stages_ms"].values()) == pytest.approx(report["step_ms"], rel=0.05)
    assert report["peak_memory_gib"] > 0.05
    assert (run / "profile.md").read_text() in done.stdout
    events = json.loads((run / "trace.json").read_text())["traceEvents"]
    assert {"codec forward", "q_theta", "backward", "optimizers"} <= {event.get("name") for event in events}
