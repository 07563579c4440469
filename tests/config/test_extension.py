"""More updates for a finished run: where they are those of one long run, and where not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from regicomp.config import extension
from regicomp.config.settings import Settings

Resolved = Callable[..., Settings]
CONSTANT = ("trainer.max_steps=60", "optimizer.schedule=constant")


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        ((*CONSTANT, "reg.warmup_steps=2"), 20),
        ((*CONSTANT, "reg.alpha=0"), 20),
        (("trainer.max_steps=90000", "optimizer.schedule=constant"), 50000),  # both warm-ups are the longest
    ],
)
def test_a_run_that_began_as_the_longer_one_is_extended(
    resolved: Resolved, overrides: tuple[str, ...], steps: int
) -> None:
    settings = resolved(*overrides)
    assert extension.obstacle(settings, steps) is None
    shorter = resolved(*overrides, f"trainer.max_steps={steps}")
    assert extension.hash_with(settings, steps) == shorter.config_hash != settings.config_hash


@pytest.mark.parametrize(
    ("overrides", "steps", "why"),
    [
        (
            ("trainer.max_steps=60", "optimizer.schedule=cosine"),
            20,
            r"`optimizer.schedule` \(=cosine\) covers the whole",
        ),
        (CONSTANT, 20, "warm-up took 1 updates and that of the longer run takes 3"),
        ((*CONSTANT, "reg.warmup_steps=2", "reg.release_steps=5"), 20, r"`reg.release_steps` \(=5\)"),
        ((*CONSTANT, "reg.warmup_steps=2"), 80, r"longer than `trainer.max_steps` \(=60\)"),
    ],
)
def test_others_are_refused_with_the_reason(
    resolved: Resolved, overrides: tuple[str, ...], steps: int, why: str
) -> None:
    import re

    assert re.search(why, extension.obstacle(resolved(*overrides), steps) or "")
