"""How soon a codec is good: J = R + λD on Kodak against seconds of training, for three ways to train.

`python -m bench.time_to_quality [--minutes 20] [--arms example adam recipe early] [--widths half full]
[--lambdas 0.0067 0.0018] [--images 24] [--data data] [--clock wall] [--set key=value …] [--draw]`

Arms: `example` is CompressAI's example loop (float32, contiguous, Adam 1e-4, batches of 8 crops of 256²); `adam` is our
step with the same optimizer, learning rate and batches; `recipe` is conf/experiment/recipe.yaml with as many updates as
fit into the time; `early` is the recipe with an eighth of the time. All see the images of bsds500 and imagenet1000 and
are measured at the same parts of their time; measuring is not counted. The threads are those of OMP_NUM_THREADS.

A finished arm is lines of time_to_quality.csv and is not trained again: the bench can be stopped and called again. It
then draws time_to_quality.png and prints the table; `--draw` does only this. `--set` changes the recipe's arms, which
then have the change in their name: so a choice of the recipe is tried (experiments/recipe).
"""

from __future__ import annotations

import argparse
import csv
import datetime
import math
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from regicomp.utils import cli

cli.quiet_libraries()

import matplotlib.pyplot as plt  # noqa: E402
import torch  # noqa: E402
from compressai.models import ScaleHyperprior  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from lightning.pytorch import Callback, Trainer  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from bench.train_step import ExampleLoop, this_machine  # noqa: E402
from regicomp.backbone import precision  # noqa: E402
from regicomp.config import resolvers, settings  # noqa: E402
from regicomp.config.settings import Settings  # noqa: E402
from regicomp.data import testsets  # noqa: E402
from regicomp.data.datamodule import CropData  # noqa: E402
from regicomp.image_codec.codec import to_tensor  # noqa: E402
from regicomp.training.build import build_networks  # noqa: E402
from regicomp.training.module import RegularizedCodec  # noqa: E402
from regicomp.utils import memory  # noqa: E402

RESULTS = Path(__file__).parent / "time_to_quality.csv"
PICTURE = Path(__file__).parent / "time_to_quality.png"
WIDTHS = {"half": (64, 96), "full": (128, 192)}
ARMS = ("example", "adam", "recipe", "early")
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of the time, at which J is measured
EARLY = 1 / 8  # of the time
EXAMPLE = ((0.0, 256, 8),)  # crops over the updates: from a part of them on, side and batch
_PROBED = 8  # updates of each shape by which the time of an update is found


class Arm(NamedTuple):
    """One training."""

    arm: str  # one of ARMS, with what differs from it, such as "recipe optimizer.lr=2e-3"
    width: str
    lmbda: float
    minutes: float  # of the bench: the arm `early` takes an eighth of them

    @property
    def kind(self) -> str:
        """Which of ARMS."""
        return self.arm.split()[0]

    @property
    def changes(self) -> dict[str, str]:
        """Settings of the recipe that differ, and `shapes` (see `shapes`)."""
        return dict(change.split("=", 1) for change in self.arm.split()[1:])


_NOW: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Measured(NamedTuple):
    """A line of the results."""

    arm: str
    width: str
    lmbda: float
    minutes: float
    seconds: float  # of training so far
    updates: int
    rate_bpp: float
    psnr_db: float
    j: float
    clock: str  # that counted the seconds: wall, or cpu (of all threads together)
    machine: str
    threads: int
    date: str


@torch.no_grad()
def quality(codec: nn.Module, images: Iterable[Tensor], lmbda: float) -> tuple[float, float, float]:
    """Mean bits a pixel (estimated), PSNR in dB and R + λD of rounded latents, over images (1, 3, H, W) in [0, 1]."""
    codec.eval()
    found: list[tuple[float, float, float]] = []
    for x in images:
        height, width = x.shape[2:]
        out = codec(F.pad(x, (0, -width % 64, 0, -height % 64), mode="replicate"))
        rate = sum(-float(p.log2().sum()) for p in out["likelihoods"].values()) / (height * width)
        mse = 255**2 * float((out["x_hat"][:, :, :height, :width].clamp(0, 1) - x).square().mean())
        found.append((rate, 10 * math.log10(255**2 / mse), rate + lmbda * mse))
    codec.train()
    rate, psnr, j = (sum(column) / len(found) for column in zip(*found, strict=True))
    return rate, psnr, j


class Clock:
    """Counts the seconds of one training, stands still while the codec is measured, and knows when the time is over."""

    def __init__(self, arm: Arm, images: list[Tensor], clock: str = "wall") -> None:
        self.arm, self.images, self.clock, self.now = arm, images, clock, _NOW[clock]
        self.total = 60 * arm.minutes * (EARLY if arm.kind == "early" else 1)
        self.lines: list[Measured] = []
        self._marks = [share * self.total for share in SHARES]
        self._spent, self._since = 0.0, self.now()

    def start(self) -> None:
        """Training begins now, or goes on."""
        self._since = self.now()

    def updated(self, codec: nn.Module, updates: int, last: bool = False) -> bool:
        """After an update: measure if it is time; whether the time is over."""
        seconds = self._spent + self.now() - self._since
        over = last or seconds >= self.total
        if over or seconds >= self._marks[0]:
            self._marks = [mark for mark in self._marks if mark > seconds]
            measured = quality(codec, self.images, self.arm.lmbda)
            about = self.clock, this_machine()["device"], torch.get_num_threads(), datetime.date.today().isoformat()
            self.lines.append(Measured(*self.arm, round(seconds, 1), updates, *measured, *about))
            print(f"{self.arm}: {seconds:.0f} s, {updates} updates, J = {measured[2]:.3f}", flush=True)
            self._spent = seconds
            self.start()
        return over


def train(arm: Arm, clock: Clock, folders: list[str]) -> None:
    """Train one arm until its clock says that the time is over."""
    if arm.kind == "example":
        loop = ExampleLoop(torch.device("cpu"), make=lambda: ScaleHyperprior(*WIDTHS[arm.width]), lmbda=arm.lmbda)
        batches = iter(_data(_composed(arm, folders, EXAMPLE, 10**6), 10**6).train_dataloader())
        batch, updates = next(batches), 0
        clock.start()
        while updates == 0 or not clock.updated(loop.codec, updates):
            loop.step(batch)
            batch, updates = next(batches), updates + 1
        return
    crops = shapes(arm)
    steps = max(len(crops), int(clock.total / _seconds_an_update(arm, folders, crops, clock.now)))
    cfg = _composed(arm, folders, crops, steps)
    module = build_networks(cfg)
    updated: Callable[[int], bool] = lambda updates: clock.updated(module.codec, updates, updates == steps)  # noqa: E731
    _fit(module, cfg, steps, updated, clock.start)


def shapes(arm: Arm) -> tuple[tuple[float, int, int], ...]:
    """Crops over the updates of an arm, as EXAMPLE has them: those of conf/experiment/recipe.yaml, or of `shapes=`.

    Raises:
        ValueError: `shapes` is not such as "0:64x8/0.75:128x8".
    """
    if arm.kind not in ("recipe", "early"):
        return EXAMPLE
    if (text := arm.changes.get("shapes")) is None:
        with initialize_config_dir(str(settings.conf_dir()), version_base="1.3"):
            cfg = settings.resolve(compose("train", overrides=["experiment=recipe"]))
        return tuple((p.start / cfg.trainer.max_steps, p.crop, p.batch_size) for p in cfg.phases.phases)
    parts = [re.fullmatch(r"([\d.]+):(\d+)x(\d+)", part) for part in text.split("/")]
    if not all(parts) or not text.startswith("0:"):
        raise ValueError(f"`shapes` (={text}) must be parts START:SIDExBATCH from 0 on, such as 0:64x8/0.75:128x8")
    return tuple((float(m[1]), int(m[2]), int(m[3])) for m in parts if m)


def _seconds_an_update(
    arm: Arm, folders: list[str], shapes: tuple[tuple[float, int, int], ...], now: Callable[[], float]
) -> float:
    """Mean over the training, from a few updates of each shape."""
    mean, ends = 0.0, [*(start for start, _, _ in shapes[1:]), 1.0]
    for (start, crop, batch), end in zip(shapes, ends, strict=True):
        cfg, marks = _composed(arm, folders, ((0.0, crop, batch),), _PROBED), list[float]()

        def note(updates: int, marks: list[float] = marks) -> bool:
            marks.append(now())
            return False

        _fit(build_networks(cfg), cfg, _PROBED, note)
        mean += (end - start) * (marks[-1] - marks[1]) / (len(marks) - 2)
    return mean


def _composed(arm: Arm, folders: list[str], shapes: tuple[tuple[float, int, int], ...], steps: int) -> Settings:
    """The settings of a training of `steps` updates."""
    (n, m), (_, crop, batch) = WIDTHS[arm.width], shapes[0]
    plain = ["optimizer=adam", "optimizer.lr=1e-4", "optimizer.schedule=constant"]
    phases = (f"{{start: {int(share * steps)}, crop: {c}, batch_size: {b}}}" for share, c, b in shapes[1:])
    with initialize_config_dir(str(settings.conf_dir()), version_base="1.3"):
        cfg = compose(
            "train",
            overrides=[
                *(["experiment=recipe"] if arm.kind in ("recipe", "early") else plain),
                *("data=folder", f"data.train_dir=[{','.join(folders)}]", f"data.crop={crop}"),
                *(f"data.batch_size={batch}", f"phases=[{', '.join(phases)}]", f"trainer.max_steps={steps}"),
                *(f"backbone.N={n}", f"backbone.M={m}", f"objective.lmbda={arm.lmbda}", "reg.alpha=0"),
                "testsets=[kodak]",
                *(f"{key}={value}" for key, value in arm.changes.items() if key != "shapes"),
            ],
        )
    return settings.resolve(cfg)


def _data(cfg: Settings, steps: int) -> CropData:
    return CropData(cfg.data, steps, cfg.seed, cfg.phases)


def _fit(
    module: RegularizedCodec,
    cfg: Settings,
    steps: int,
    updated: Callable[[int], bool],
    started: Callable[[], None] = lambda: None,
) -> None:
    """Our training; `started` is called before the first update, `updated` after each, and ends it if it says so."""

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == 0:
                started()

        def on_train_batch_end(
            self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            trainer.should_stop |= updated(trainer.global_step)

    memory.keep_freed()
    Trainer(
        accelerator="cpu",
        devices=1,
        precision=precision.resolve(cfg.precision, cfg.channels_last, "cpu").lightning,
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=[Watch()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, datamodule=_data(cfg, steps))


_KINDS = {"lmbda": float, "minutes": float, "seconds": float, "updates": int, "threads": int}
_KINDS |= dict.fromkeys(("rate_bpp", "psnr_db", "j"), float)


def read(path: Path) -> list[Measured]:
    """The results so far."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [Measured(**{k: _KINDS.get(k, str)(v) for k, v in row.items()}) for row in csv.DictReader(file)]


def append(path: Path, lines: list[Measured]) -> None:
    """Add an arm's lines to the results."""
    new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(Measured._fields)
        for line in lines:
            writer.writerow([f"{v:.4f}" if k in ("rate_bpp", "psnr_db", "j") else v for k, v in line._asdict().items()])


def _order(arm: Arm) -> tuple[Any, ...]:
    """By width and λ, then as in ARMS."""
    return arm[1:], ARMS.index(arm.kind), arm.arm


def table(lines: list[Measured]) -> str:
    """The last J of every arm, and its change against the example loop's."""
    last = {line[:4]: line for line in lines}
    shown = ["| width | λ | arm | seconds | updates | bpp | PSNR | J | against the example loop |", "|" + " --- |" * 9]
    for key, line in sorted(last.items(), key=lambda item: _order(Arm(*item[0]))):
        example = last.get(("example", *key[1:]))
        against = f"{100 * (line.j / example.j - 1):+.1f} %" if example else "-"
        shown.append(
            f"| {line.width} | {line.lmbda:g} | {line.arm} | {line.seconds:.0f} | {line.updates} "
            f"| {line.rate_bpp:.3f} | {line.psnr_db:.2f} | {line.j:.3f} | {against} |"
        )
    return "\n".join(shown)


def draw(lines: list[Measured], path: Path) -> None:
    """J against seconds, an axis a width and λ, an arm in one colour on all of them."""
    panels = sorted({(line.width, line.lmbda) for line in lines})
    arms = sorted({line.arm for line in lines}, key=lambda arm: (ARMS.index(arm.split()[0]), arm))
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.8), squeeze=False, layout="constrained")
    for axis, (width, lmbda) in zip(axes[0], panels, strict=True):
        for colour, arm in enumerate(arms):
            chosen = [line for line in lines if (line.width, line.lmbda, line.arm) == (width, lmbda, arm)]
            axis.plot([m.seconds for m in chosen], [m.j for m in chosen], marker="o", color=f"C{colour}", label=arm)
        axis.set(xscale="log", yscale="log", xlabel="seconds of training", ylabel="J on Kodak")
        axis.set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
        axis.set_yticks([], minor=True)
        axis.set_title(f"hyperprior, {width} width, λ = {lmbda:g}", fontsize="medium")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(arms))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--widths", nargs="+", choices=WIDTHS, default=tuple(WIDTHS))
    parser.add_argument("--lambdas", nargs="+", type=float, default=(0.0067, 0.0018))
    parser.add_argument("--images", type=int, default=24, help="of Kodak")
    parser.add_argument("--data", default="data", help="folder of bsds500, imagenet1000 and kodak")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument(
        "--clock", choices=_NOW, default="wall", help="cpu on a machine with other work: processor time"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value", help="also shapes=0:64x8/0.5:128x8")
    parser.add_argument("--draw", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    resolvers.register_resolvers()
    asked = [
        Arm(" ".join([arm, *(arguments.set if arm in ("recipe", "early") else [])]), width, lmbda, arguments.minutes)
        for width in arguments.widths
        for lmbda in arguments.lambdas
        for arm in arguments.arms
    ]
    try:
        for arm in asked:
            shapes(arm)
    except ValueError as error:
        parser.error(str(error))
    if not arguments.draw:
        folders = [str(Path(arguments.data) / name) for name in ("bsds500", "imagenet1000")]
        (kodak,) = testsets.find(["kodak"], arguments.data, [], arguments.images)
        images = [to_tensor(image.load()) for image in kodak.images]
        for arm in asked:
            if arm in {Arm(*line[:4]) for line in read(arguments.results)}:
                continue
            clock = Clock(arm, images, arguments.clock)
            train(arm, clock, folders)
            append(arguments.results, clock.lines)
    lines = read(arguments.results)
    print(table(lines))
    draw(lines, arguments.picture)


if __name__ == "__main__":
    main()
