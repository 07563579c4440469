"""The bench of time to quality: what it writes, reads and shows; that it trains is seen by running it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.time_to_quality import Arm, Clock, Measured, append, quality, read, shapes, table
from regicomp.config import resolvers


class _Codec(torch.nn.Module):
    """Costs half a bit a sample and adds a grey level."""

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        return {"x_hat": x + 1 / 255, "likelihoods": {"y": torch.full_like(x, 0.5**0.5)}}


def _line(arm: str, seconds: float, j: float) -> Measured:
    return Measured(arm, "half", 0.0067, 20, seconds, 10, 0.5, 30.0, j, "wall", "this machine", 1, "2026-11-24")


def test_quality_is_rate_and_distortion_of_the_pixels_alone() -> None:
    rate, psnr, j = quality(_Codec(), [torch.full((1, 3, 64, 64), 0.5), torch.full((1, 3, 128, 64), 0.25)], 0.1)
    assert (rate, j) == pytest.approx((1.5, 1.6), rel=1e-4)
    assert psnr == pytest.approx(48.13, abs=0.01)


def test_a_finished_arm_is_read_as_it_was_written(tmp_path: Path) -> None:
    append(tmp_path / "r.csv", [_line("example", 75.0, 4.0)])
    append(tmp_path / "r.csv", [_line("recipe", 75.0, 2.0), _line("recipe", 1200.0, 1.0)])
    assert read(tmp_path / "r.csv") == [
        _line("example", 75.0, 4.0),
        _line("recipe", 75.0, 2.0),
        _line("recipe", 1200.0, 1.0),
    ]
    assert read(tmp_path / "none.csv") == []


def test_the_table_compares_with_the_example_loop() -> None:
    shown = table([_line("recipe", 75.0, 2.0), _line("recipe", 1200.0, 1.0), _line("example", 1200.0, 4.0)])
    assert "| recipe | 1200 | 10 | 0.500 | 30.00 | 1.000 | -75.0 % |" in shown
    assert shown.count("recipe") == 1


def test_a_changed_recipe_is_an_arm_of_its_own() -> None:
    arm = Arm("recipe shapes=0:64x8/0.5:128x4 data.train_dir=[a,b=c]", "half", 0.0067, 20)
    assert arm.kind == "recipe"
    assert arm.changes == {"shapes": "0:64x8/0.5:128x4", "data.train_dir": "[a,b=c]"}
    assert shapes(arm) == ((0, 64, 8), (0.5, 128, 4))
    shown = table([_line("recipe", 1200.0, 1.0), _line(arm.arm, 1200.0, 2.0), _line("example", 1200.0, 4.0)])
    assert [row.split(" | ")[2] for row in shown.splitlines()[2:]] == ["example", "recipe", arm.arm]


def test_the_recipe_s_crops_are_those_of_its_file() -> None:
    resolvers.register_resolvers()
    parts = shapes(Arm("early", "half", 0.0067, 20))
    assert parts[0][0] == 0
    assert [part[0] for part in parts] == sorted({part[0] for part in parts})
    assert parts[-1][0] < 1
    assert parts == shapes(Arm("recipe optimizer.lr=2e-3", "full", 0.0018, 20))
    assert shapes(Arm("adam", "half", 0.0067, 20)) == ((0, 256, 8),)


@pytest.mark.parametrize("text", ["64x8", "0:64x8/128x8", "0.5:64x8", ""])
def test_crops_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"`shapes` \(="):
        shapes(Arm(f"recipe shapes={text}", "half", 0.0067, 20))


def test_measuring_takes_none_of_the_time() -> None:
    clock = Clock(Arm("early", "half", 0.0067, 20), [torch.zeros(1, 3, 64, 64)])
    assert clock.total == 150
    clock._since -= 10  # ten seconds ago
    assert not clock.updated(_Codec(), 3)
    assert [line.updates for line in clock.lines] == [3]
    assert clock.updated(_Codec(), 4, last=True)
    assert clock.lines[1].seconds == pytest.approx(10, abs=2)
