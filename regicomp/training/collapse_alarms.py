"""Warnings about a source entropy model that has collapsed, each with what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

# Mean log-scale of q_θ as a part of what it can reach (source/base.py); beyond, most samples stand at the bound.
_AT_BOUND = 0.9
_NO_ENTROPY_BPP = 0.05  # of 24 bits a pixel
_MOSTLY = 0.9


class _Alarm(NamedTuple):
    """A state worth a warning when it lasts."""

    name: str
    holds: Callable[[dict[str, float], float], bool]  # given the row and the part of updates whose pressure was capped
    advice: str


_ALARMS = (
    _Alarm(
        "narrow",
        lambda row, capped: row.get("log_scale", 0.0) < -_AT_BOUND,
        "the scales of q_θ are at their lower bound: it is over-confident, and the codec is paid to distort; raise "
        "`source.initial_scale` or lower `reg.alpha`",
    ),
    _Alarm(
        "wide",
        lambda row, capped: row.get("log_scale", 0.0) > _AT_BOUND,
        "the scales of q_θ are at their upper bound: it predicts nothing; raise `optimizer.source_lr` or lengthen "
        "`reg.warmup_steps`",
    ),
    _Alarm(
        "no entropy",
        lambda row, capped: row.get("source_bpp", 24.0) < _NO_ENTROPY_BPP,
        "H_θ(X|X̂) has fallen to 0: q_θ predicts x from x̂ without error, so the regularizer has no effect; lower "
        "`quality` or `objective.lmbda`",
    ),
    _Alarm(
        "pressure",
        lambda row, capped: capped >= _MOSTLY,
        "the pressure has long been at its cap: the regularizer gradient is as large as the distortion gradient; lower "
        "`reg.alpha`, lengthen `reg.ramp_steps`, or raise `reg.max_pressure` on purpose",
    ),
)


class Alarms:
    """Warnings about states that have lasted for `rows` logged rows, one until the state ends.

    Args:
        rows: consecutive logged rows.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._lasted = dict.fromkeys((alarm.name for alarm in _ALARMS), 0)
        self._before: tuple[int, float] | None = None  # step and `capped` of the row before

    def __call__(self, row: dict[str, float], step: int) -> list[str]:
        """Take a logged row; the warnings that are due."""
        if "source_bpp" not in row:
            return []
        capped = 0.0
        if self._before is not None and step > self._before[0]:
            capped = (row.get("capped", 0.0) - self._before[1]) / (step - self._before[0])
        self._before = (step, row.get("capped", 0.0))
        due: list[str] = []
        for alarm in _ALARMS:
            self._lasted[alarm.name] = self._lasted[alarm.name] + 1 if alarm.holds(row, capped) else 0
            if self._lasted[alarm.name] == self.rows:
                due.append(alarm.advice)
        return due
