"""The learned game on a known source: the image codecs' training, and the exact entropies of its code, by enumeration.

A `Game` trains small codecs (regicomp.theory.point_codec) with `RegularizedCodec`, `Regularizer` and `RateDistortion`,
the classes that train image codecs. At the steps asked for, every outcome of the source is coded as the finished codec
would code it, rounding instead of noise: U, X̂ and their entropies are exact, not estimated.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from regicomp.objective.rate_distortion import RateDistortion
from regicomp.objective.regularizer import AlphaSchedule, Regularizer
from regicomp.theory import information, known_sources
from regicomp.theory.known_sources import KnownSource
from regicomp.theory.point_codec import PointCodec, PointSource
from regicomp.training.module import Optimization, RegularizedCodec

# Reconstructions closer than this, in grey levels and in both samples, count as one picture.
PICTURE_TOLERANCE = 1e-3
_AT_ONCE = 4096  # outcomes coded at once


class Game(NamedTuple):
    """One training run: `seeds` independent codecs of each source, side by side."""

    lmbda: float
    alpha: float  # 0: q_θ learns beside the plain codec, as with reg.probe=true
    sources: tuple[str, ...] = tuple(known_sources.SOURCES)
    seeds: int = 8
    steps: int = 1000
    batch: int = 64  # points of each member a step
    lr: float = 5e-3
    warmup_steps: int = 50
    ramp_steps: int = 50
    max_pressure: float = 1.0  # over all members together
    initial_scale: float = 20.0
    context: bool = False  # a richer q_θ, see PointSource
    order: str = "codec_first"
    source_steps: int = 1
    measured: tuple[int, ...] = ()  # steps after which to enumerate, besides the last
    seed: int = 0  # of initial weights, points and noise; equal for games that are to be compared

    @property
    def members(self) -> list[tuple[str, int]]:
        """Source and seed of each member, in their order."""
        return [(source, seed) for source in self.sources for seed in range(self.seeds)]


class Exact(NamedTuple):
    """Entropies, rates and distortion of one member's codec and q_θ on their source. Bits; grey levels squared."""

    entropies: information.Chain
    codes: int  # values of U that occur
    pictures: int  # values of X̂ that occur
    rate: float  # R: cross-entropy of the latents' model
    source: float  # H_θ: cross-entropy of q_θ
    mse_255: float


class Row(NamedTuple):
    """One member after one step."""

    step: int  # codec updates done
    member: str  # name of its source
    seed: int
    pressure: float  # ρ of all members together at the latest update
    capped: int  # updates so far in which the bound acted
    exact: Exact


class Played(NamedTuple):
    """The result of a game."""

    game: Game
    rows: list[Row]
    diverged: str | None  # the error that ended the training, if one did


def build(game: Game) -> RegularizedCodec:
    """The image codecs' module around a fresh codec and q_θ."""
    torch.manual_seed(game.seed)
    members = len(game.members)
    codec = PointCodec(members=members)
    objective = RateDistortion(game.lmbda)
    source = PointSource(members=members, context=game.context, initial_scale=game.initial_scale)
    schedule = AlphaSchedule(game.alpha, game.warmup_steps, game.ramp_steps)
    optimization = Optimization(
        steps=game.steps,
        lr=game.lr,
        source_lr=game.lr,
        decay=0.5,
        clip=math.inf,  # a common norm would tie the members together
        order=game.order,
        source_steps=game.source_steps,
    )
    regularizer = Regularizer(source, objective, schedule, game.max_pressure)
    return RegularizedCodec(codec, objective, regularizer, optimization, game.seed)


def batches(game: Game) -> Tensor:
    """The training points of every step, uint8 (steps, batch, 2, members, 1); each member's are its seed's own."""
    drawn = []
    for name, seed in game.members:
        generator = torch.Generator().manual_seed(1000 * game.seed + seed)
        points = known_sources.SOURCES[name].draw(game.steps * game.batch, generator)
        drawn.append(points.reshape(game.steps, game.batch, 2))
    return torch.stack(drawn, dim=-1)[..., None]


def play(game: Game) -> Played:
    """Train, and enumerate at the steps asked for and at the end."""
    return train(game)[1]


def train(game: Game, module: RegularizedCodec | None = None) -> tuple[RegularizedCodec, Played]:
    """As `play`, with the trained module; a `module` that is given is trained in place of a fresh one."""
    module = module or build(game)
    watcher = _Watcher(game)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=game.steps,
        max_epochs=-1,
        log_every_n_steps=50,
        logger=False,
        callbacks=[watcher],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    diverged = None
    try:
        trainer.fit(module, DataLoader(list(batches(game)), batch_size=None))  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        if "diverged" not in str(error):
            raise
        diverged = str(error)
    return module, Played(game, watcher.rows, diverged)


class _Watcher(Callback):
    """Enumerates while the module trains."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.rows: list[Row] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step in self.game.measured or step == self.game.steps:
            assert isinstance(pl_module, RegularizedCodec)
            assert pl_module.regularizer is not None
            rho, capped, _ = pl_module.regularizer.read_pressure()
            for (name, seed), exact in zip(self.game.members, enumerated(pl_module, self.game), strict=True):
                self.rows.append(Row(step, name, seed, rho, capped, exact))


class _Coded(NamedTuple):
    """All outcomes as every member codes them: n outcomes, S members."""

    symbols: Tensor  # (n, S, M)
    x_hat: Tensor  # (n, 2, S), grey levels
    rate: Tensor  # (n, S), bits
    source: Tensor  # (n, S), bits


@torch.no_grad()
def _code(module: RegularizedCodec, points: Tensor, members: int) -> _Coded:
    codec = copy.deepcopy(module.codec)
    assert isinstance(codec, PointCodec)
    codec.update(force=True, update_quantiles=True)
    assert module.regularizer is not None
    source: Any = module.regularizer.source
    parts = []
    for outcomes in points.split(_AT_ONCE):
        x = (outcomes.float() / 255)[:, :, None, None].expand(-1, -1, members, 1)
        coded = codec.code(x)
        parts.append(
            _Coded(
                coded.symbols,
                255 * coded.x_hat[..., 0].double(),
                coded.bits,
                source.bits(x, coded.x_hat).sum((1, 3)).double(),
            )
        )
    return _Coded(*(torch.cat(column) for column in zip(*parts, strict=True)))


def enumerated(module: RegularizedCodec, game: Game) -> list[Exact]:
    """Each member's codec and q_θ on every outcome of its source; the module is left as it is."""
    names = [name for name, _ in game.members]
    sources: Mapping[str, KnownSource] = known_sources.SOURCES
    points = sources[names[0]].points
    coded = _code(module, points, len(names))
    found = []
    for index, name in enumerate(names):
        p = sources[name].probabilities.flatten()
        u, x_hat = labels(coded.symbols[:, index], coded.x_hat[:, :, index])
        error = ((coded.x_hat[:, :, index] - points) ** 2).mean(1)
        occurs = p > 0
        found.append(
            Exact(
                entropies=information.chain(p, u, x_hat),
                codes=len(torch.unique(u[occurs])),
                pictures=len(torch.unique(x_hat[occurs])),
                rate=float(p @ coded.rate[:, index]),
                source=float(p @ coded.source[:, index]),
                mse_255=float(p @ error),
            )
        )
    return found


@torch.no_grad()
def maps(module: RegularizedCodec, game: Game) -> list[tuple[Tensor, Tensor]]:
    """Each member's code and reconstruction of every outcome: U as int64 (65536,), x̂ in grey levels (65536, 2)."""
    members = game.members
    coded = _code(module, known_sources.SOURCES[members[0][0]].points, len(members))
    return [
        (labels(coded.symbols[:, index], coded.x_hat[:, :, index])[0], coded.x_hat[:, :, index])
        for index in range(len(members))
    ]


def labels(symbols: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and pictures of n outcomes, numbered from 0: int64 (n,) each.

    A code is one picture: that of its first outcome. Pictures are one if they are rounded to the same multiples of
    PICTURE_TOLERANCE.

    Args:
        symbols: int64, (n, M).
        x_hat: grey levels, (n, 2).

    Raises:
        ValueError: a reconstruction is no finite number.
    """
    if not bool(torch.isfinite(x_hat).all()):
        raise ValueError("training diverged: a reconstruction is no finite number")
    low = symbols.amin(0)
    mixed = torch.zeros(len(symbols), dtype=torch.int64)
    for digit, size in zip((symbols - low).T, (symbols.amax(0) - low + 1).tolist(), strict=True):
        mixed = mixed * size + digit
    codes, u = torch.unique(mixed, return_inverse=True)
    first = torch.full((len(codes),), len(u), dtype=torch.int64).scatter_reduce(
        0, u, torch.arange(len(u)), reduce="amin"
    )
    rounded = torch.round(x_hat[first] / PICTURE_TOLERANCE).long()
    return u, torch.unique(rounded, dim=0, return_inverse=True)[1][u]
