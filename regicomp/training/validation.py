"""Validation while training: the codec as it would be exported now, on a few images, and the best one so far.

A validation leaves the training untouched: it measures a copy, and draws from no random stream of the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torchmetrics import MeanMetric

from regicomp.data.images import Pixels
from regicomp.data.testsets import TestSet
from regicomp.distributed import collectives
from regicomp.evaluation.metrics import ms_ssim_of, psnr_of
from regicomp.image_codec import model_file
from regicomp.image_codec.codec import Codec, to_pixels, to_tensor
from regicomp.training.loggers import MetricsCsv

BEST = "best.safetensors"  # of a run
_CANDIDATE = "candidate.safetensors"
_METRICS = ("val_bpp", "val_psnr_db", "val_ms_ssim", "val_j")


def columns(levels: int) -> tuple[str, ...]:
    """Of validation.csv: each metric, and each at every level of variable rate."""
    return ("step", *_METRICS, *(f"{name}_{k + 1}" for k in range(levels) for name in _METRICS))


class Validation(Callback):
    """Every `every` updates, and after the last, the mean rate, quality and J = R + λD of a few images.

    The rate is estimated, everything else as in the record, each metric a mean over images: PSNR is not that of the
    images' pooled error, which torchmetrics' PeakSignalNoiseRatio has. At variable rate every level is measured, and
    the metrics without a level are means over the levels. The processes of a run share the images out.

    Args:
        run_dir: where `best.safetensors`, the exported codec of the lowest J, is kept.
        every: codec updates between validations.
        images: what is measured.
        lambdas: λ, or λ of each level.
        distortion: "mse" or "ms_ssim".
        export: writes the codec as it is now to a file.
        trusted: the user's own modules whose classes that file may name.
        written: validation.csv, in the first process.
    """

    def __init__(
        self,
        run_dir: Path,
        every: int,
        images: TestSet,
        lambdas: list[float],
        distortion: str,
        export: Callable[[Path, int], None],
        trusted: tuple[str, ...] = (),
        written: MetricsCsv | None = None,
    ) -> None:
        self.run_dir, self.every, self.images = run_dir, every, images
        self.lambdas, self.distortion, self.export, self.trusted = lambdas, distortion, export, trusted
        self.written = written
        self.best: float | None = None
        self.j: float | None = None  # of the last validation

    def state_dict(self) -> dict[str, Any]:
        """The lowest J so far, for a checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's."""
        self.best = state_dict["best"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Validate when it is due; before the checkpoint of the same update."""
        step = trainer.global_step
        if step % self.every == 0 or step == trainer.max_steps:
            with torch.random.fork_rng(), torch.no_grad():
                self._validate(trainer, pl_module, step)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close validation.csv."""
        if self.written is not None:
            self.written.finalize("")

    def _validate(self, trainer: Trainer, module: Any, step: int) -> None:
        candidate = self.run_dir / _CANDIDATE
        if trainer.is_global_zero:
            with contextlib.nullcontext() if module.average is None else module.average.in_use():
                self.export(candidate, step)
        collectives.gather(None)  # it is written
        codec = Codec(model_file.load_codec(candidate, self.trusted), device=str(module.device))
        values, shown = self._measured(codec, module.device)
        self.j = values["val_j"]
        if trainer.is_global_zero:
            if self.best is None or values["val_j"] < self.best:
                candidate.replace(self.run_dir / BEST)
            candidate.unlink(missing_ok=True)
            self._log(trainer, values, shown, step)
        if self.best is None or values["val_j"] < self.best:
            self.best = values["val_j"]

    def _measured(self, codec: Codec, device: torch.device) -> tuple[dict[str, float], list[tuple[str, Pixels]]]:
        """The metrics by name, and this process's reconstructions at the middle level."""
        variable = codec.levels is not None
        means: dict[str, MeanMetric] = {}
        shown: list[tuple[str, Pixels]] = []
        middle = (len(self.lambdas) - 1) // 2
        for image in self.images.images[collectives.rank() :: collectives.world()]:
            pixels = image.load()
            for k, lmbda in enumerate(self.lambdas):
                x_hat, rate = codec.reconstruct(pixels, 1.0 + k if variable else None)
                rounded = to_pixels(x_hat)
                similarity, _ = ms_ssim_of(pixels, rounded)
                found = {"val_bpp": rate, "val_psnr_db": psnr_of(pixels, rounded), "val_ms_ssim": similarity}
                found["val_j"] = rate + lmbda * self._distortion(pixels, x_hat, similarity)
                for name, value in found.items():
                    for label in (name, f"{name}_{k + 1}") if variable else (name,):
                        if value is not None:
                            means.setdefault(label, MeanMetric().to(device)).update(value)
                if k == middle:
                    shown.append((image.name, rounded))
        labels = sorted(set().union(*collectives.gather(sorted(means))))  # all processes must ask for all means
        for label in labels:
            if label not in means:  # no image was this process's
                means[label] = MeanMetric().to(device)
                means[label].update(0.0, weight=0.0)
        return {label: float(means[label].compute()) for label in labels}, shown

    def _distortion(self, pixels: Pixels, x_hat: torch.Tensor, similarity: float | None) -> float:
        """D of the objective; images too small for MS-SSIM count as MS-SSIM 0."""
        if self.distortion == "ms_ssim":
            return 1 - (similarity or 0.0)
        return float(torch.mean((255 * (x_hat - to_tensor(pixels)).double()) ** 2))

    def _log(self, trainer: Trainer, values: dict[str, float], shown: list[tuple[str, Pixels]], step: int) -> None:
        if self.written is not None:
            self.written.log_metrics(values, step)
            self.written.save()
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                continue
            logger.log_metrics(values, step)
            for name, pixels in shown[:_PICTURES]:
                _show(logger, f"validation/{name}", pixels, step)


_PICTURES = 2  # of a validation, to loggers that take pictures


def _show(logger: Any, name: str, pixels: Pixels, step: int) -> None:
    """A picture to W&B (`log_image`) or to TensorBoard (`add_image`)."""
    if hasattr(logger, "log_image"):
        logger.log_image(name, [pixels], step=step)
    elif hasattr(experiment := logger.experiment, "add_image"):
        experiment.add_image(name, pixels, step, dataformats="HWC")
