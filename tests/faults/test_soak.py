"""The verdict of a soak on given samples; `make soak` makes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soak


def _samples(slower: float = 0.0, growth: float = 0.0) -> list[soak.Sample]:
    """Two hours of a minute each: after the 60th updates take more processor seconds and memory grows."""
    late = [max(0, k - 60) for k in range(121)]
    return [
        soak.Sample(k, 600 * k, 50 * k + 50 * slower * late[k], 900 * (1 + growth * late[k] / 60), 12 * k, k % 7)
        for k in range(121)
    ]


@pytest.mark.parametrize(
    ("samples", "failed"),
    [
        (_samples(), ()),
        (_samples(slower=0.05, growth=0.04), ()),
        (_samples(slower=0.2), ("processor seconds an update: ",)),
        (_samples(growth=0.06), ("memory: 900.0 MB after 10.0 minutes, +6.0 % at the end",)),
        (_samples()[:2], ("too few samples",)),
    ],
)
def test_what_is_flat_and_what_is_not(samples: list[soak.Sample], failed: tuple[str, ...]) -> None:
    said = [line for line in soak.verdict(samples) if line.startswith("FAILED")]
    assert len(said) == len(failed)
    assert all(f"FAILED {start}" in line for start, line in zip(failed, said, strict=True))


def test_a_log_that_broke_off_is_reported_as_far_as_it_goes(tmp_path: Path) -> None:
    log = tmp_path / "soak.jsonl"
    log.write_text("".join(json.dumps(sample._asdict()) + "\n" for sample in _samples()[:31]))
    told = soak.table(soak.read(log), "the run ended by itself")
    assert "| 23 to 30 | 4200 | 0.0833 | 0.1000 | 10.00 | 900.0 |" in told
    assert "- 30.0 minutes, 18000 updates, 360 of about 360 checkpoints loaded" in told
    assert "- FAILED the run ended by itself" in told
