"""Measurements of one row of the table; each function is run in a process of its own, so that memory is its own too.

`python -m bench.rows '{"measure": "steps", "backbone": "hyperprior", …}'` prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from regicomp.config import resolvers, settings
from regicomp.utils import cli

cli.quiet_libraries()

import compressai.models  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from PIL import Image  # noqa: E402

from bench.train_step import ExampleLoop, fit  # noqa: E402
from regicomp.backbone import precision  # noqa: E402
from regicomp.data import dead_leaves, shard_writer  # noqa: E402
from regicomp.data.datamodule import CropData  # noqa: E402
from regicomp.training import profiling  # noqa: E402
from regicomp.training.build import build_networks  # noqa: E402
from regicomp.training.cuda_graph import UpdateGraphs  # noqa: E402

# CompressAI's own class of each backbone; it has no MLIC++.
EXAMPLES = {
    "hyperprior": "ScaleHyperprior",
    "autoregressive": "JointAutoregressiveHierarchicalPriors",
    "attention": "Cheng2020Attention",
    "elic": "Elic2022Official",
}


class Setting(NamedTuple):
    """The measurement of one row."""

    backbone: str
    precision: str = "float32"  # of our steps; the example loop is float32
    batch: int = 4
    crop: int = 256
    size: str = "paper"
    rounds: int = 3
    optimizer: str = "adam"


def compose_run(setting: Setting, *overrides: str) -> settings.Settings:
    """The settings of our run."""
    resolvers.register_resolvers()
    with initialize_config_dir(str(settings.conf_dir()), version_base="1.3"):
        cfg = compose(
            "train",
            overrides=[
                *(f"backbone={setting.backbone}", f"size={setting.size}", f"precision={setting.precision}"),
                *(f"data.crop={setting.crop}", f"data.batch_size={setting.batch}", "data.images=8"),
                *("reg.warmup_steps=0", "reg.ramp_steps=0", "optimizer.schedule=constant"),
                *(f"optimizer={setting.optimizer}", "testsets=[photos]"),
                *overrides,
            ],
        )
    return settings.resolve(cfg)


_RENEWAL = 10  # updates: conf/optimizer/soap.yaml's `every`
PLAIN, REGULARIZED = ("reg.alpha=0",), ("reg.alpha=0.1",)


def example_loop(setting: Setting) -> Callable[[int], list[float]]:
    cfg = compose_run(setting, *PLAIN)
    arguments = cfg.backbone.arguments
    make = getattr(compressai.models, EXAMPLES[setting.backbone])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loop = ExampleLoop(device, make=lambda: make(**arguments), lmbda=cfg.objective.lmbda)
    batches = iter(CropData(cfg.data, 10**9, 0).train_dataloader())

    def run(steps: int) -> list[float]:
        seconds = []
        for _ in range(steps):
            crops = next(batches)
            started = time.perf_counter()
            loop.step(crops)  # reads its loss, which waits for the device
            seconds.append(time.perf_counter() - started)
        return seconds

    return run


def our_loop(
    setting: Setting, *overrides: str, now: Callable[[], float] = time.perf_counter
) -> Callable[[int], list[float]]:
    cfg = compose_run(setting, *overrides)
    module = build_networks(cfg)
    if cfg.compile:
        precision.compile_networks(module.codec, module.regularizer.source if module.regularizer else None)
    if cfg.cuda_graph:
        module.graphs = UpdateGraphs()
    return lambda steps: fit(module, cfg, steps, now=now)


def variants(setting: Setting) -> Iterator[tuple[str, Callable[[int], list[float]]]]:
    """The loops that are compared: each runs some steps and returns the seconds of each."""
    if setting.backbone in EXAMPLES:
        yield "example", example_loop(setting)
    yield "plain", our_loop(setting, *PLAIN)
    yield "regularized", our_loop(setting, *REGULARIZED)


def steps(setting: Setting) -> dict[str, Any]:
    """Median seconds a step; the variants take turns, three steps each a round, of which the last two count."""
    loops = list(variants(setting))
    seconds: dict[str, list[float]] = {name: [] for name, _ in loops}
    for _ in range(setting.rounds):
        for name, run in loops:
            seconds[name] += run(3)[1:]
    return {
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "samples_per_second": {name: setting.batch / statistics.median(v) for name, v in seconds.items()},
        "all_seconds": seconds,
    }


def pair(setting: Setting) -> dict[str, Any]:
    """Mean processor seconds of a plain and of a regularized update under `optimizer`, ten updates each a round.

    SOAP renews its eigenvectors in every tenth update; the first update, which finds them, is not counted.
    """
    arms = {"plain": PLAIN, "regularized": REGULARIZED}
    loops = {name: our_loop(setting, *arm, now=time.process_time) for name, arm in arms.items()}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(setting.rounds):
        for name, run in loops.items():
            seconds[name] += run(1 + _RENEWAL)[1:]
    return {name: statistics.mean(values) for name, values in seconds.items()}


def compiling(setting: Setting) -> dict[str, Any]:
    """Seconds of the first regularized update with compile=true, and of later ones with and without, in turn."""
    loops = {"usual": our_loop(setting, *REGULARIZED), "compiled": our_loop(setting, *REGULARIZED, "compile=true")}
    (first,) = loops["compiled"](1)
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(setting.rounds):
        for name, run in loops.items():
            seconds[name] += run(3)[1:]
    return {"first_seconds": first, **{name: statistics.median(values) for name, values in seconds.items()}}


def costs(setting: Setting) -> dict[str, Any]:
    """Parameters, and FLOPs of forward and backward for one crop, of codec and q_θ."""
    cfg = compose_run(setting, *REGULARIZED)
    module = build_networks(cfg)
    codec, source = profiling.flops_a_crop(module, setting.crop)
    return {
        "parameters": sum(p.numel() for p in module.codec.parameters()),
        "source_parameters": sum(p.numel() for p in module.theta),
        "gflops": codec / 1e9,
        "source_gflops": source / 1e9,
    }


def memory(setting: Setting, variant: str) -> dict[str, Any]:
    """Peak memory of three steps in GiB, and their median seconds; on a GPU its own memory, else the process's."""
    with tempfile.TemporaryDirectory() as name:
        larger: tuple[str, ...] = ()
        if setting.crop > dead_leaves.SIDE:
            _photographs(Path(name), 8)
            larger = ("data=folder", f"data.train_dir={name}")
        maker = {"example": lambda: example_loop(setting), "plain": lambda: our_loop(setting, *PLAIN, *larger)}
        run = maker.get(variant, lambda: our_loop(setting, *REGULARIZED, *larger))()
        seconds = run(3)
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_gib": peak / 2**30, "seconds": statistics.median(seconds[1:])}


def _photographs(folder: Path, count: int) -> None:
    """JPEG files of 960×640 pixels made of dead leaves."""
    leaves = dead_leaves.make(6, 0)
    sheet = np.concatenate([np.concatenate(leaves[:3], 1), np.concatenate(leaves[3:], 1)], 0)
    for k in range(count):
        Image.fromarray(np.roll(sheet, 37 * k, (0, 1))).save(folder / f"{k:03d}.jpg", quality=90)


def loading(setting: Setting, crops: int = 256) -> dict[str, Any]:
    """Crops a second that the loader alone gives: images decoded at each crop (files, shards) or kept decoded."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, packed = Path(name) / "photographs", Path(name) / "shards"
        folder.mkdir()
        _photographs(folder, 16)
        shard_writer.prepare(folder, packed, 2**20, shard_writer.Settings("original", skip=False, verify=False), 1)
        files, streamed = ("data=folder", f"data.train_dir={folder}"), ("data=shards", f"data.train_dir={packed}")
        for source, overrides in {
            "JPEG folder": (*files, "data.cache=false", "data.workers=0"),
            "JPEG folder, 2 workers": (*files, "data.cache=false", "data.workers=2"),
            "streamed from shards": (*streamed, "data.cache=false", "data.workers=0"),
            "streamed from shards, 2 workers": (*streamed, "data.cache=false", "data.workers=2"),
            "cached": (*files, "data.cache=true", "data.workers=0"),
        }.items():
            cfg = compose_run(setting, *PLAIN, *overrides)
            count = crops // setting.batch
            batches = iter(CropData(cfg.data, count + 2, 0).train_dataloader())
            next(batches)
            started = time.perf_counter()
            for _ in range(count):
                next(batches)
            found[source] = setting.batch * count / (time.perf_counter() - started)
    return {"crops_per_second": found}


def main() -> None:
    """Entry point."""
    asked = json.loads(sys.argv[1])
    measure, extra = asked.pop("measure"), {k: asked.pop(k) for k in ("variant", "crops") if k in asked}
    measures: tuple[Callable[..., dict[str, Any]], ...] = (steps, pair, compiling, costs, memory, loading)
    functions = {function.__name__: function for function in measures}
    print(json.dumps(functions[measure](Setting(**asked), **extra)))


if __name__ == "__main__":
    main()
