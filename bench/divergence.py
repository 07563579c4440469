"""How long two computations of the same training agree: ours, the example loop, and each with weights a hair off.

`python -m bench.divergence [--steps 300] [--crop 64] [--batch 2]`: full-size hyperprior, float32, the same weights,
crops and noise. What the example loop differs from itself by is what no comparison of losses can resolve.
"""

from __future__ import annotations

import argparse
import statistics

from regicomp.config import resolvers
from regicomp.utils import cli

cli.quiet_libraries()

import torch  # noqa: E402
from torch import nn  # noqa: E402

from bench.train_step import ExampleLoop, compose_step, fit  # noqa: E402
from regicomp.data.datamodule import CropData  # noqa: E402
from regicomp.training.build import build_networks  # noqa: E402
from regicomp.training.module import noise_seed  # noqa: E402

_SHOWN = (0, 10, 30, 60, 100, 150, 200, 250)  # updates
_HAIR = 1e-7


def _off(network: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + by)


def example_losses(arguments: argparse.Namespace, off: float) -> list[float]:
    """Loss of each update of CompressAI's example loop, its initial weights times 1 + off."""
    arguments.channels_last = "auto"
    cfg = compose_step(arguments, arguments.crop, "reg.alpha=0")
    loop = ExampleLoop(torch.device("cpu"))
    _off(loop.codec, off)
    losses = []
    for step, crops in enumerate(CropData(cfg.data, arguments.steps, 0).train_dataloader()):
        torch.manual_seed(noise_seed(0, step))
        losses.append(loop.step(crops))
    return losses


def our_losses(arguments: argparse.Namespace, off: float, channels_last: str) -> list[float]:
    """Loss of each of our plain updates, the initial weights times 1 + off."""
    arguments.channels_last = channels_last
    cfg = compose_step(arguments, arguments.crop, "reg.alpha=0")
    module = build_networks(cfg)
    _off(module.codec, off)
    losses: list[float] = []
    fit(module, cfg, arguments.steps, losses)
    return losses


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, default in (("steps", 300), ("crop", 64), ("batch", 2)):
        parser.add_argument(f"--{flag}", type=int, default=default)
    arguments = parser.parse_args()
    arguments.precision = "float32"
    resolvers.register_resolvers()
    runs = {
        "example loop": lambda: example_losses(arguments, 0),
        f"the same, weights × (1 + {_HAIR:g})": lambda: example_losses(arguments, _HAIR),
        "ours, contiguous": lambda: our_losses(arguments, 0, "false"),
        "ours, channels_last": lambda: our_losses(arguments, 0, "auto"),
        f"ours, channels_last, weights × (1 + {_HAIR:g})": lambda: our_losses(arguments, _HAIR, "auto"),
    }
    shown = [k for k in _SHOWN if k < arguments.steps]
    print("| loss at update | " + " | ".join(str(k + 1) for k in shown) + " | mean of the last 50 |")
    print("|---" * (len(shown) + 2) + "|")
    for name, run in runs.items():
        losses = run()
        cells = [f"{losses[k]:.4f}" for k in shown] + [f"{statistics.mean(losses[-50:]):.2f}"]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
