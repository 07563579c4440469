"""One training step of the full-size hyperprior: ours, plain and regularized, against CompressAI's example loop.

`python -m bench.train_step [--rounds 5] [--crop 256] [--batch 4] [--loss-steps 300] [--loss-crop 128]
[--precision auto] [--channels-last auto]`

The variants take turns within one process, so that a noisy machine is equally noisy to all; medians are reported, and
ratios of medians. The example loop is CompressAI's recipe as its examples/train.py has it: float32, contiguous, one
Adam for the network, one for the auxiliary loss of the quantiles, gradient norm clipped at 1.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from regicomp.config import resolvers, settings
from regicomp.utils import cli, machine

cli.quiet_libraries()

import torch  # noqa: E402
from compressai.models import ScaleHyperprior  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from lightning.pytorch import Callback, Trainer  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch import Tensor  # noqa: E402

from regicomp.backbone import precision  # noqa: E402
from regicomp.data.datamodule import CropData  # noqa: E402
from regicomp.training.build import build_networks  # noqa: E402
from regicomp.training.module import RegularizedCodec, noise_seed  # noqa: E402

LMBDA = 0.0130
RESULTS = Path(__file__).parent / "results.json"


class ExampleLoop:
    """CompressAI's example training loop, one step at a time.

    Args:
        device: where it runs.
        seed: of the weights.
        make: builds the codec.
        lmbda: λ on the 0..255 scale.
    """

    def __init__(
        self,
        device: torch.device,
        seed: int = 0,
        make: Callable[[], torch.nn.Module] = lambda: ScaleHyperprior(128, 192),
        lmbda: float = LMBDA,
    ) -> None:
        torch.manual_seed(seed)
        self.codec: Any = make().to(device)
        self.device, self.lmbda = device, lmbda
        named = dict(self.codec.named_parameters())
        self.network = torch.optim.Adam([p for n, p in named.items() if not n.endswith("quantiles")], 1e-4)
        self.auxiliary = torch.optim.Adam([p for n, p in named.items() if n.endswith("quantiles")], 1e-3)

    def step(self, batch: Tensor) -> float:
        """One update on uint8 crops, (B, 3, crop, crop); the loss R + λD."""
        x = batch.to(self.device).float() / 255
        self.network.zero_grad()
        self.auxiliary.zero_grad()
        out = self.codec(x)
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        rate = sum(torch.log(p).sum() / (-0.6931471805599453 * pixels) for p in out["likelihoods"].values())
        loss = self.lmbda * 255**2 * torch.nn.functional.mse_loss(out["x_hat"], x) + rate
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.codec.parameters(), 1.0)
        self.network.step()
        self.codec.aux_loss().backward()
        self.auxiliary.step()
        return loss.item()


class _Watch(Callback):
    """Seconds of each training step, the device's work included, by a clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.seconds: list[float] = []
        self._now, self._last = now, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._last = self._now()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = self._now()
        self.seconds.append(now - self._last)
        self._last = now


def compose_step(arguments: argparse.Namespace, crop: int, *overrides: str) -> settings.Settings:
    """The settings of one of our steps on crops of side `crop`."""
    with initialize_config_dir(str(settings.conf_dir()), version_base="1.3"):
        cfg = compose(
            "train",
            overrides=[
                *(f"data.crop={crop}", f"data.batch_size={arguments.batch}", "data.images=8", "quality=4"),
                *(f"precision={arguments.precision}", f"channels_last={arguments.channels_last}"),
                *("reg.warmup_steps=0", "reg.ramp_steps=0", "optimizer=adam", "optimizer.schedule=constant"),
                *overrides,
            ],
        )
    return settings.resolve(cfg)


def fit(
    module: RegularizedCodec,
    cfg: settings.Settings,
    steps: int,
    losses: list[float] | None = None,
    now: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Seconds of `steps` updates by Lightning's loop, as `regicomp.train` runs it, by the clock `now`."""
    watch = _Watch(now)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    computing = precision.resolve(cfg.precision, cfg.channels_last, device)
    precision.set_backends(computing)
    if losses is not None:
        hand_on = losses.append
        module._log = lambda step, terms, source_bpp: hand_on(float(terms.loss.detach()))  # pyright: ignore
    trainer = Trainer(
        accelerator="auto",
        devices=1,
        precision=computing.lightning,
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=[watch],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=CropData(cfg.data, steps, cfg.seed))
    return watch.seconds


def _variants(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[int], list[float]]]]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loop, plain = ExampleLoop(device), compose_step(arguments, arguments.crop)
    data = CropData(plain.data, 1000, 0)

    def example(steps: int) -> list[float]:
        seconds = []
        for batch_of_crops, _ in zip(data.train_dataloader(), range(steps), strict=False):
            started = time.perf_counter()
            loop.step(batch_of_crops)
            seconds.append(time.perf_counter() - started)
        return seconds

    yield "CompressAI's example loop", example
    for name, overrides in (
        ("plain", ["reg.alpha=0"]),
        ("regularized, one pass", ["reg.alpha=0.1"]),
        ("regularized, two passes", ["reg.alpha=0.1", "reg.form=two_pass"]),
    ):
        cfg = compose_step(arguments, arguments.crop, *overrides)
        module = build_networks(cfg)
        yield name, lambda steps, module=module, cfg=cfg: fit(module, cfg, steps)


def step_times(arguments: argparse.Namespace) -> dict[str, float]:
    """Median seconds a step by variant; each round gives every variant three steps, of which the last two count."""
    variants = list(_variants(arguments))
    seconds: dict[str, list[float]] = {name: [] for name, _ in variants}
    for _ in range(arguments.rounds):
        for name, run in variants:
            seconds[name] += run(3)[1:]
    return {name: statistics.median(values) for name, values in seconds.items()}


def final_losses(arguments: argparse.Namespace) -> dict[str, float]:
    """Mean loss of the last 50 of `loss_steps` updates; both loops with the same weights, crops and noise."""
    cfg, steps = compose_step(arguments, arguments.loss_crop, "reg.alpha=0"), arguments.loss_steps
    module, ours, example = build_networks(cfg), [], []
    loop = ExampleLoop(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    for step, crops in enumerate(CropData(cfg.data, steps, 0).train_dataloader()):
        torch.manual_seed(noise_seed(0, step, 0))
        example.append(loop.step(crops))
    fit(module, cfg, steps, ours)
    return {"CompressAI's example loop": statistics.mean(example[-50:]), "plain": statistics.mean(ours[-50:])}


def this_machine() -> dict[str, str]:
    """Machine and versions, on which the figures depend."""
    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        "device": machine.name(device_type),
        "fast bf16": "yes" if precision.has_fast_bf16(device_type) else "no",
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, default in (("rounds", 5), ("crop", 256), ("batch", 4), ("loss-steps", 300), ("loss-crop", 128)):
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--precision", default="auto", help="of our steps: auto, bf16 or float32")
    parser.add_argument("--channels-last", default="auto", help="of our steps: auto, true or false")
    arguments = parser.parse_args()
    resolvers.register_resolvers()
    machine = this_machine()
    seconds = step_times(arguments)
    losses = final_losses(arguments)
    example, plain = seconds["CompressAI's example loop"], seconds["plain"]
    console = Console(width=110)
    console.print(", ".join(f"{key}: {value}" for key, value in machine.items()))
    table = Table(title=f"hyperprior (128, 192), {arguments.batch} crops of {arguments.crop}²")
    for column in ("step", "seconds (median)", "example loop / this", "this / plain"):
        table.add_column(column)
    for name, value in seconds.items():
        table.add_row(name, f"{value:.3f}", f"{example / value:.2f}", f"{value / plain:.2f}")
    console.print(table)
    difference = losses["plain"] / losses["CompressAI's example loop"] - 1
    console.print(
        f"mean loss of the last 50 of {arguments.loss_steps} steps, {arguments.batch} crops of "
        f"{arguments.loss_crop}²: {losses}, {100 * difference:+.3f} %"
    )
    written = {"machine": machine, "arguments": vars(arguments), "seconds": seconds, "losses": losses}
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept = {"table": before["table"]} if "table" in before else {}
    RESULTS.write_text(json.dumps({**written, **kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
