"""The LightningModule: a codec φ and its source entropy model θ, updated in alternation."""

from __future__ import annotations

import hashlib
import math
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from regicomp.export import trainable
from regicomp.objective import RateDistortion, Terms
from regicomp.precision import keep_entropy_in_float32
from regicomp.regularizer import Regularizer


class Optimization(NamedTuple):
    """Adam's settings and the order of the alternating update (conf/train.yaml, conf/reg)."""

    steps: int  # codec updates of the whole run
    lr: float = 1e-4
    source_lr: float = 1e-4
    schedule: str = "cosine"  # or "constant"
    decay: float = 0.3
    clip: float = 1.0
    order: str = "codec_first"  # or "source_first"
    form: str = "one_pass"  # or "two_pass"
    source_steps: int = 1

    def factor(self, step: int) -> float:
        """What both learning rates are multiplied with at codec update `step`: 1, falling to 0.01 under cosine."""
        start = self.steps * (1 - self.decay)
        if self.schedule == "constant" or step < start:
            return 1.0
        along = (step - start) / max(1.0, self.steps - start)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * along))


def noise_seed(seed: int, step: int, rank: int) -> int:
    """Seed of the quantization noise of one codec update: equal for a run and its anchor, and on resume."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=7).digest(), "big")


class RegularizedCodec(LightningModule):
    """Trains L(φ) = R + λD - α H_θ(X|X̂) and, in alternation, θ on H_θ (design section 3).

    ::

                 ┌───────┐ x̂ ─────────────► λD ──┐
        x ──►────┤ codec ├─┤                     ├──► loss ──► one backward pass
                 └───────┘ └─(-α)─► q_θ ──► H_θ ─┤
                     └── likelihoods ──────► R ──┘

    Args:
        codec: takes (B, 3, H, W) in [0, 1], returns {"x_hat", "likelihoods"}.
        objective: R + λD.
        regularizer: holds q_θ; None trains the plain codec.
        optimization: learning rates, clipping, order of the updates.
        seed: of the quantization noise.
        identity: plain values stored in checkpoints, by which a resuming run knows its own.
        channels_last: memory format of the images.
    """

    def __init__(
        self,
        codec: nn.Module,
        objective: RateDistortion,
        regularizer: Regularizer | None,
        optimization: Optimization,
        seed: int = 0,
        identity: dict[str, Any] | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.codec = codec
        self.regularizer = regularizer
        self.objective = objective
        self.optimization = optimization
        self.seed = seed
        self.identity = identity or {}
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.codec.to(memory_format=self.memory_format)  # pyright: ignore[reportCallIssue]
        keep_entropy_in_float32(codec)
        self.phi = trainable(codec)
        self.theta = list(regularizer.source.parameters()) if regularizer is not None else []
        alpha = regularizer.schedule.alpha if regularizer is not None else 0.0
        self.codec_is_fixed = optimization.lr == 0 and alpha == 0  # then only q_θ learns, and φ needs no gradient
        self.shown: dict[str, float] = {}

    # --- the alternating update ---------------------------------------------------------------------------------

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """One codec update (and its θ updates) on uint8 crops, (B, 3, crop, crop)."""
        step = self.global_step
        self._begin(step)
        x = (batch.float() / 255).contiguous(memory_format=self.memory_format)
        with torch.set_grad_enabled(not self.codec_is_fixed):
            out = self.codec(x)
        x_hat = out["x_hat"].float()
        terms = self.objective.terms(x, x_hat, out["likelihoods"].values())
        if self.regularizer is None:
            source_bpp = None
            self.manual_backward(terms.loss)
            self._step_codec()
        elif self.optimization.order == "source_first":
            source_bpp = self._source_first(self.regularizer, x, x_hat, terms.loss, step)
        elif self.optimization.form == "two_pass":
            source_bpp = self._two_pass(self.regularizer, x, x_hat, terms.loss, step)
        else:
            source_bpp = self.regularizer(x, x_hat, step)  # its gradient reaches x̂ times -α
            self.manual_backward(terms.loss + source_bpp)
            self._step_codec()
            self._step_source()
        self._log(step, terms, source_bpp)

    def _two_pass(self, regularizer: Regularizer, x: Tensor, x_hat: Tensor, loss: Tensor, step: int) -> Tensor:
        """The literal form of the one-pass update: φ's step at θ_t, then θ's on the same, detached x̂."""
        self.manual_backward(loss + regularizer.literal(x, x_hat, step), inputs=self.phi)
        self._step_codec()
        source_bpp = regularizer.source(x, x_hat.detach())
        self.manual_backward(source_bpp, inputs=self.theta)
        self._step_source()
        return source_bpp

    def _source_first(self, regularizer: Regularizer, x: Tensor, x_hat: Tensor, loss: Tensor, step: int) -> Tensor:
        """`source_steps` steps of θ on the detached x̂, then φ's step at the new θ, as GAN critics are trained."""
        source_bpp = torch.zeros(())
        for _ in range(self.optimization.source_steps):
            source_bpp = regularizer.source(x, x_hat.detach())
            self.manual_backward(source_bpp, inputs=self.theta)
            self._step_source()
        self.manual_backward(loss + regularizer.literal(x, x_hat, step), inputs=self.phi)
        self._step_codec()
        return source_bpp

    def _step_codec(self) -> None:
        self._step(self.phi, self._optimizers[0])

    def _step_source(self) -> None:
        # Unwrapped: Lightning counts the steps of its wrappers, and a step is a codec update.
        self._step(self.theta, self._optimizers[1].optimizer)

    def _step(self, parameters: list[nn.Parameter], optimizer: LightningOptimizer | torch.optim.Optimizer) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, self.optimization.clip)
        optimizer.step()
        optimizer.zero_grad()

    # --- around it ----------------------------------------------------------------------------------------------

    @property
    def _optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]  # pyright: ignore[reportReturnType]

    def _begin(self, step: int) -> None:
        """Learning rates and quantization noise are functions of the step, so nothing else need be stored."""
        factor = self.optimization.factor(step)
        rates = (self.optimization.lr, self.optimization.source_lr)
        for optimizer, lr in zip(self._optimizers, rates, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = lr * factor
        torch.manual_seed(noise_seed(self.seed, step, self.global_rank))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for φ and, where there is a q_θ, Adam for θ."""
        phi = torch.optim.Adam(self.phi, self.optimization.lr, fused=True)
        if not self.theta:
            return [phi]
        return [phi, torch.optim.Adam(self.theta, self.optimization.source_lr, fused=True)]

    def _log(self, step: int, terms: Terms, source_bpp: Tensor | None) -> None:
        """Read the step's values back and hand them on, every `log_every` updates only: reading waits for the device.

        Raises:
            ValueError: the loss is no longer a finite number.
        """
        every = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if (step + 1) % every:
            return
        values = {name: float(value.detach()) for name, value in terms._asdict().items()}
        values["psnr_db"] = -10 * math.log10(max(values["mse_255"], 1e-10) / 255**2)
        values["lr"] = self.optimization.lr * self.optimization.factor(step)
        if self.regularizer is not None and source_bpp is not None:
            values["source_bpp"] = float(source_bpp.detach())
            values["alpha"] = self.regularizer.schedule.at(step)
            values["pressure"], values["capped"] = self.regularizer.read_pressure()
        if not all(math.isfinite(v) for v in values.values()):
            raise ValueError(
                f"training diverged: after {step + 1} updates the values are {values}; lower `reg.alpha` or "
                "`optimizer.lr`, or lengthen `reg.warmup_steps`"
            )
        self.shown = values
        if self.global_rank == 0:
            for logger in self.loggers:
                logger.log_metrics(values, step + 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what a resuming run checks before it goes on."""
        checkpoint["regicomp"] = self.identity
