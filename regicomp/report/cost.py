"""The cost of a report's runs: hours of training and measuring, for each sweep."""

from __future__ import annotations

from typing import NamedTuple

from regicomp.report.records import Measurement


class Cost(NamedTuple):
    """The runs of one sweep."""

    sweep: str
    runs: int
    training_hours: float  # wall time, summed over runs, however many ran at once
    measuring_hours: float
    thread_hours: float  # both, times processes and threads
    untimed: int  # runs whose record has no such figures
    machines: str = ""  # that trained them, where their records name it

    def said(self) -> list[str]:
        """The cells of a table."""
        hours = (self.training_hours, self.measuring_hours, self.thread_hours)
        lacking = f" ({self.untimed} of them not timed)" if self.untimed else ""
        return [self.sweep, f"{self.runs}{lacking}", *(f"{h:.2f}" for h in hours), self.machines or "–"]


HEADS = ("sweep", "runs", "hours of training", "of measuring", "times threads", "trained on")


def of(measurements: list[Measurement]) -> list[Cost]:
    """A row a sweep, the folder that runs share where there are several; each run counts once."""
    sweeps: dict[str, dict[str, Measurement]] = {}
    for m in measurements:
        sweep = m.label.rpartition("/")[0] or m.folder.parent.name
        sweeps.setdefault(sweep, {})[m.label] = m
    return [_cost(sweep, list(of_run.values())) for sweep, of_run in sweeps.items()]


def markdown(costs: list[Cost]) -> str:
    """cost.md."""
    rows = [HEADS, ["---", *["--:"] * (len(HEADS) - 2), "---"], *(c.said() for c in costs)]
    return "# Time spent\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cost(sweep: str, runs: list[Measurement]) -> Cost:
    training = measuring = threads = 0.0
    untimed = 0
    for run in runs:
        if run.timing.get("training_seconds") is None:
            untimed += 1
            continue
        spent = [(run.timing.get(f"{what}_seconds") or 0) / 3600 for what in ("training", "evaluation")]
        training, measuring = training + spent[0], measuring + spent[1]
        threads += sum(spent) * (run.timing.get("processes") or 1) * (run.timing.get("threads") or 1)
    machines = dict.fromkeys(run.timing["trained_on"] for run in runs if "trained_on" in run.timing)
    return Cost(sweep, len(runs), training, measuring, threads, untimed, ", ".join(machines))
