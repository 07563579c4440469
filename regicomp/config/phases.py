"""Schedules as data: crop size, batch, learning rate and α at each codec update.

A phase is a pure function of the step and a crop of its position, so a resumed run need not store its position.
"""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Phase(NamedTuple):
    """The values in force from codec update `start` on."""

    start: int
    crop: int  # side of the crops in pixels
    batch_size: int  # crops a codec update, over all ranks
    lr: float
    source_lr: float
    alpha: float


KEYS = Phase._fields


class Phases:
    """The phases of a run in the order of their start; the first starts at 0.

    Args:
        phases: at least one.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self.phases = list(phases)
        self._starts = [phase.start for phase in phases]
        self._positions = [0]  # crops cut before each phase
        for phase, following in zip(self.phases, self.phases[1:], strict=False):
            self._positions.append(self._positions[-1] + (following.start - phase.start) * phase.batch_size)

    def at(self, step: int) -> Phase:
        """The phase of codec update `step`, counted from 0."""
        return self.phases[bisect.bisect_right(self._starts, step) - 1]

    def first_position(self, step: int) -> int:
        """Position of the first crop of codec update `step`: the number of crops cut before it."""
        k = bisect.bisect_right(self._starts, step) - 1
        return self._positions[k] + (step - self._starts[k]) * self.phases[k].batch_size

    def crop_of(self, position: int) -> int:
        """Side in pixels of the crop at `position`."""
        return self.phases[bisect.bisect_right(self._positions, position) - 1].crop

    @property
    def largest_crop(self) -> int:
        """Side in pixels of the largest crop; smaller images cannot be used."""
        return max(phase.crop for phase in self.phases)


def one(crop: int, batch_size: int, lr: float = 0.0, source_lr: float = 0.0, alpha: float = 0.0) -> Phases:
    """A run of a single phase."""
    return Phases([Phase(0, crop, batch_size, lr, source_lr, alpha)])


def read(first: Phase, entries: Any, steps: int) -> Phases:
    """The phases of a configuration.

    Args:
        first: the values from the first update on, from the run's own settings.
        entries: `phases` of the configuration: a list of mappings with `start` and at least one other key of
            `Phase`; a value that an entry does not name stays as it was. `lr` without `source_lr` sets both.
        steps: codec updates of the run.

    Raises:
        ValueError: an entry is not of that form, or the starts do not rise or lie beyond the run.
    """
    phases = [first]
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ValueError(f"`phases` (={entries}) must be a list of mappings, such as [{{start: 1000, crop: 512}}]")
    for k, entry in enumerate(entries):
        name = f"phases[{k}]"
        if not isinstance(entry, Mapping) or "start" not in entry or len(entry) < 2:
            raise ValueError(f"`{name}` (={entry}) must be a mapping with `start` and at least one of {_others()}")
        for key in entry:
            if key not in KEYS:
                raise ValueError(
                    f"`{name}.{key}` (={entry[key]}) must be one of {', '.join(KEYS)}; "
                    f"the nearest is `{difflib.get_close_matches(str(key), KEYS, 1, 0)[0]}`"
                )
        values = {str(key): _checked(f"{name}.{key}", str(key), value) for key, value in entry.items()}
        if "lr" in values:
            values.setdefault("source_lr", values["lr"])
        if not (phases[-1].start < values["start"] < steps or (k == 0 and values["start"] == 0)):
            raise ValueError(
                f"`{name}.start` (={values['start']}) must be greater than the start before it "
                f"(={phases[-1].start}) and less than `trainer.max_steps` (={steps})"
            )
        phase = phases[-1]._replace(**values)
        phases = [*phases[:-1], phase] if values["start"] == 0 else [*phases, phase]
    return Phases(phases)


def _others() -> str:
    return ", ".join(key for key in KEYS if key != "start")


def _checked(name: str, key: str, value: Any) -> Any:
    if key in ("start", "crop", "batch_size"):
        least = 0 if key == "start" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"`{name}` (={value}) must be an integer of at least {least}")
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (0 <= value < float("inf")) or (key != "alpha" and value == 0):
        least = "of at least 0" if key == "alpha" else "greater than 0"
        raise ValueError(f"`{name}` (={value}) must be a finite number {least}")
    return float(value)
