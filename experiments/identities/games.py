"""The games that are played, several at once, and their rows as a table."""

from __future__ import annotations

import csv
import multiprocessing
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from regicomp.theory.learned_game import Game, Played, Row, play

ALPHAS = (0.0, 0.03, 0.1, 0.3)
LMBDAS = (0.003, 0.006, 0.012, 0.024, 0.048)
LEARNING = (5, 20, 40, 60, 80, 100, 150, 200, 400)
START = (10, 25, 50, 100, 200, 300)
NO_BOUND = 1e9


class Entry(NamedTuple):
    """A game and the part of the experiment it belongs to."""

    part: str
    label: str
    game: Game


def plan(seeds: int, steps: int) -> list[Entry]:
    """All games, the longest first.

    Args:
        seeds: of the sweep over λ and α; the other parts take a third and a half of them.
        steps: codec updates of each.
    """
    sweep = [
        Entry("sweep", f"λ {lmbda:g}, α {alpha:g}", Game(lmbda, alpha, seeds=seeds, steps=steps))
        for lmbda in LMBDAS
        for alpha in ALPHAS
    ]
    measured = tuple(step for step in LEARNING if step < steps)
    base = Game(0.012, 0.1, seeds=max(1, seeds // 3), steps=steps, measured=measured)
    learning = {
        "α = 0": base._replace(alpha=0.0),
        "α = 0.1": base,
        "α = 0.3": base._replace(alpha=0.3),
        "α = 0.1, q_θ with context": base._replace(context=True),
        "α = 0.1, 4 steps of θ first": base._replace(order="source_first", source_steps=4),
    }
    entries = [*sweep, *(Entry("learning", label, game) for label, game in learning.items())]
    steps = min(steps, 400)
    measured = tuple(step for step in START if step < steps)
    base = Game(0.003, 0.3, sources=("mixture",), seeds=max(1, seeds // 2), steps=steps, measured=measured)
    for scale in (20.0, 4.0, 1.0):
        warm = base._replace(initial_scale=scale)
        cold = warm._replace(warmup_steps=0, ramp_steps=0)
        entries.append(Entry("start", f"σ from {scale:g}, warm-up", warm))
        entries.append(Entry("start", f"σ from {scale:g}, no warm-up", cold))
        if scale < 20:
            unbounded = cold._replace(max_pressure=NO_BOUND)
            entries.append(Entry("start", f"σ from {scale:g}, no warm-up, ρ unbounded", unbounded))
    return entries


def _one_thread() -> None:
    torch.set_num_threads(1)


def _timed(game: Game) -> tuple[Played, float]:
    started = time.process_time()
    return play(game), time.process_time() - started


def run(entries: list[Entry], jobs: int) -> tuple[list[tuple[Entry, Played]], float]:
    """Play every game, `jobs` at a time on one thread each.

    Returns:
        Results in the order of `entries`, and the CPU seconds they took together.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
        futures = [pool.submit(_timed, entry.game) for entry in entries]
        for _ in tqdm(as_completed(futures), total=len(futures), desc="games", unit="game"):
            pass
        done = [future.result() for future in futures]
    results = [(entry, played) for entry, (played, _) in zip(entries, done, strict=True)]
    return results, sum(seconds for _, seconds in done)


COLUMNS = (
    *("part", "label", "lmbda", "alpha", "source", "seed", "step", "steps", "diverged"),
    *("h_x", "h_u", "h_x_hat", "h_x_given_x_hat", "h_u_given_x_hat", "identity_off", "codes", "pictures"),
    *("rate", "source_entropy", "mse_255", "pressure", "capped"),
)


def _values(row: Row) -> dict[str, Any]:
    exact = row.exact
    chain = exact.entropies
    return {
        "source": row.member,
        "seed": row.seed,
        "step": row.step,
        "h_x": chain.source,
        "h_u": chain.code,
        "h_x_hat": chain.picture,
        "h_x_given_x_hat": chain.source_given_picture,
        "h_u_given_x_hat": chain.code_given_picture,
        "identity_off": chain.off,
        "codes": exact.codes,
        "pictures": exact.pictures,
        "rate": exact.rate,
        "source_entropy": exact.source,
        "mse_255": exact.mse_255,
        "pressure": row.pressure,
        "capped": row.capped,
    }


def rows_of(results: Iterable[tuple[Entry, Played]]) -> list[dict[str, Any]]:
    """One row a member and step; a game that diverged before its first measured step leaves one without values."""
    found: list[dict[str, Any]] = []
    for entry, played in results:
        game = entry.game
        common = {"part": entry.part, "label": entry.label, "lmbda": game.lmbda, "alpha": game.alpha}
        common |= {"steps": game.steps, "diverged": int(played.diverged is not None)}
        found += [common | _values(row) for row in played.rows] or [common | {"source": "", "seed": "", "step": 0}]
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows as CSV, floats with nine significant digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()})


def read(path: Path) -> list[dict[str, Any]]:
    """Read what `write` wrote: strings, and numbers where there are any."""
    named = {"part", "label", "source"}
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {k: v if k in named else (float(v) if v else None) for k, v in row.items()} for row in csv.DictReader(file)
        ]
