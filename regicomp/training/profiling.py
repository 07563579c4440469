"""Where the time of a training step goes: `profile=true` writes profile.md, profile.json and trace.json."""

from __future__ import annotations

import logging
import resource
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.profiler import record_function
from torch.utils.flop_counter import FlopCounterMode

from regicomp.training.quantization import Rows
from regicomp.utils import files

log = logging.getLogger(__name__)

STAGES = ("data", "codec forward", "q_theta", "backward", "optimizers", "other")
SKIPPED, TIMED, TRACED = 5, 20, 3  # updates


def peak_memory_gib() -> float:
    """Highest memory use so far: the GPU's allocated memory, or without one the process's resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux


def flops_a_crop(module: Any, crop: int) -> tuple[float, float]:
    """FLOPs of forward and backward for one crop: the codec's, and q_θ's (0 without a regularizer).

    Args:
        module: a `RegularizedCodec`; its gradients are cleared.
        crop: the crop's side in pixels.
    """
    device = next(module.codec.parameters()).device
    if module.levels is not None:
        module.levels.begin(0, Rows(1, here=1), device)
    shared_out, module.noise.rows = module.noise.rows, Rows(0)  # one crop is all of this batch
    x = torch.randint(0, 256, (1, 3, crop, crop), generator=torch.Generator().manual_seed(0)).float() / 255
    x = x.to(device)
    with FlopCounterMode(display=False) as codec:
        out = module.codec(x)
        module.objective.terms(x, out["x_hat"], out["likelihoods"].values()).loss.backward()
    source = 0.0
    if module.regularizer is not None:
        x_hat = out["x_hat"].detach().requires_grad_()  # it passes its gradient on to the codec
        with FlopCounterMode(display=False) as counter:
            module.regularizer.source(x, x_hat).backward()
        source = float(counter.get_total_flops())
    module.noise.rows = shared_out
    module.zero_grad()
    return float(codec.get_total_flops()), source


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class FirstUpdate(Callback):
    """Says how long the first update took: with compile=true it compiles, backward pass and all."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._said = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """The batch is there."""
        if self._started is None:
            log.info("compiling: the first update takes a minute or more, and again at each new crop size or batch")
            self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Say it once."""
        if not self._said and self._started is not None:
            self._said = True
            log.info("compiled: the first update took %.1f s", _now() - self._started)


class Profile(Callback):
    """Times the stages of some updates after the first ones, then traces a few, then is out of the way.

    A stage begins where a network is called, a backward pass begins or ends, or an optimizer has stepped: hooks on them
    tell, so the update itself knows nothing of it. Loss terms count to the network before them, clipping to the
    optimizers. On a GPU the timed updates wait for it at each stage, so they are somewhat slower than others.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = defaultdict(float)
        self.total = 0.0
        self.updates = 0
        self._seen = 0
        self._mark: float | None = None
        self._tracer: torch.profiler.profile | None = None
        self._done = False
        self._hooks: list[Any] = []
        self._stage: tuple[str, float, record_function] | None = None  # the one that lasts, and since when

    def _switch(self, name: str | None) -> None:
        """End the stage that lasts and begin another; None: none."""
        if self._stage is not None:
            ended, started, label = self._stage
            label.__exit__(None, None, None)
            if self._seen < SKIPPED + TIMED:
                self.seconds[ended] += _now() - started
        self._stage = None
        if name is not None:
            label = record_function(name)
            label.__enter__()
            self._stage = (name, _now(), label)

    def _listen(self, module: Any) -> None:
        def begins(name: str) -> Any:
            return lambda *_: self._switch(name)

        self._hooks.append(module.codec.register_forward_pre_hook(begins("codec forward")))
        if (regularizer := module.regularizer) is not None:
            self._hooks.append(regularizer.register_forward_pre_hook(begins("q_theta")))
            if regularizer.source._compiled_call_impl is None:  # a hook on a compiled module would be compiled too
                self._hooks.append(regularizer.source.register_forward_pre_hook(begins("q_theta")))
        for optimizer in (wrapped.optimizer for wrapped in module._optimizers):
            self._hooks.append(optimizer.register_step_pre_hook(begins("optimizers")))
            self._hooks.append(optimizer.register_step_post_hook(begins("other")))

    def on_before_backward(self, trainer: Trainer, pl_module: Any, loss: Tensor) -> None:
        """A backward pass begins."""
        if self._hooks:
            self._switch("backward")

    def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
        """It has ended; what follows is clipping and the optimizers' steps, if not another part of the batch."""
        if self._hooks:
            self._switch("optimizers")

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """The batch is there: what passed since the update before went into it."""
        if self._done or self._seen < SKIPPED:
            return
        timed = self._seen < SKIPPED + TIMED
        if not self._hooks:
            self._listen(pl_module)
        if timed and self._mark is not None:
            self.seconds["data"] += _now() - self._mark
        if not timed and self._tracer is None:
            kinds = [torch.profiler.ProfilerActivity.CPU]
            kinds += [torch.profiler.ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self._tracer = torch.profiler.profile(activities=kinds)
            self._tracer.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Close the update; after the last one write everything."""
        if self._done:
            return
        self._switch(None)
        self._seen += 1
        if SKIPPED <= self._seen <= SKIPPED + TIMED:
            now = _now()
            if self._mark is not None:
                self.total += now - self._mark
                self.updates += 1
            self._mark = now
        if self._seen >= SKIPPED + TIMED + TRACED:
            self._finish(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """A short run is profiled as far as it went."""
        if not self._done:
            self._finish(trainer, pl_module)

    def _finish(self, trainer: Trainer, pl_module: Any) -> None:
        self._done = True
        for hook in self._hooks:
            hook.remove()
        if self._tracer is not None:
            self._tracer.stop()
        if not trainer.is_global_zero:
            return
        if self._tracer is not None:
            self._tracer.export_chrome_trace(str(self.folder / "trace.json"))
        report = self.report()
        files.write_json(self.folder / "profile.json", report)
        text = as_table(report)
        files.write_bytes(self.folder / "profile.md", text.encode())
        print(f"\n{text}\nprofile: {self.folder / 'profile.md'}, trace for chrome://tracing: trace.json", flush=True)

    def report(self) -> dict[str, Any]:
        """Milliseconds an update by stage, the updates that were timed, and the peak of memory."""
        updates = max(1, self.updates)
        stages = {name: 1000 * self.seconds[name] / updates for name in STAGES[:-1]}
        total = 1000 * self.total / updates
        stages["other"] = max(0.0, total - sum(stages.values()))
        return {"updates": self.updates, "step_ms": total, "stages_ms": stages, "peak_memory_gib": peak_memory_gib()}


def as_table(report: dict[str, Any]) -> str:
    """A report as Markdown."""
    total = report["step_ms"]
    lines = ["| stage | ms an update | % |", "| --- | --- | --- |"]
    for name, ms in report["stages_ms"].items():
        lines.append(f"| {name} | {ms:.1f} | {100 * ms / total if total else 0:.1f} |")
    lines.append(f"| all | {total:.1f} | 100.0 |")
    return "\n".join(lines) + (
        f"\n\nmean of {report['updates']} updates; peak memory {report['peak_memory_gib']:.2f} GiB\n"
    )
