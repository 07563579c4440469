"""More updates for a finished run, where they give to the bit what one long run would have given."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from regicomp.config import derived

if TYPE_CHECKING:
    from regicomp.config.settings import Settings


def hash_with(settings: Settings, steps: int) -> str:
    """`config_hash` of the same settings with another `trainer.max_steps`."""
    composed = copy.deepcopy(dict(settings.composed))
    composed["trainer"]["max_steps"] = steps
    return derived.config_hash(composed)


def obstacle(settings: Settings, steps: int, stopped_early: bool = False) -> str | None:
    """The reason why a run of `steps` updates did not begin as one of these settings would; None if it did."""
    optimizer, reg, most = settings.optimizer, settings.regularizer, settings.trainer.max_steps
    if stopped_early:
        return (
            "it was stopped early, since its last validations found no lower J (`early_stopping`); a new run "
            "can start from its codec (init_from)"
        )
    if steps > most:
        return f"it is longer than `trainer.max_steps` (={most})"
    if optimizer.schedule != "constant":
        return (
            f"its learning rate has fallen to 1 %, since `optimizer.schedule` (={optimizer.schedule}) covers the whole "
            "run; only runs with optimizer.schedule=constant can be extended, others can start a new one (init_from)"
        )
    if settings.source is None:
        return None
    if reg.release_steps:
        return f"it ended with α = 0 for `reg.release_steps` (={reg.release_steps}) updates"
    if settings.composed["reg"]["warmup_steps"] is None and reg.warmup_steps != (shorter := derived.warmup(steps)):
        return (
            f"its warm-up took {shorter} updates and that of the longer run takes {reg.warmup_steps}, 5 % of them; "
            "only runs that were given `reg.warmup_steps` can be extended"
        )
    return None
