"""The LightningModule: a codec φ and its source entropy model θ, updated in alternation."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from compressai.entropy_models import EntropyBottleneck
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from regicomp.backbone.entropy_bottleneck import without_read_backs
from regicomp.backbone.fast_layers import without_strided_pointwise
from regicomp.backbone.precision import keep_entropy_in_float32
from regicomp.config.phases import Phases
from regicomp.distributed import collectives
from regicomp.objective.rate_distortion import RateDistortion, Terms
from regicomp.objective.regularizer import Regularizer
from regicomp.training.averaging import Average
from regicomp.training.levels import Levels
from regicomp.training.nonfinite_guard import Guard
from regicomp.training.optimizers import Method
from regicomp.training.quantization import BatchNoise, RoundedReconstruction, noise_seed, share


class Optimization(NamedTuple):
    """The optimizers' settings and the order of the alternating update (conf/optimizer, conf/reg)."""

    steps: int  # codec updates of the whole run
    lr: float = 1e-4
    source_lr: float = 1e-4
    schedule: str = "cosine"  # or "linear", or "constant"
    decay: float = 0.3
    clip: float = 1.0
    warmup: int = 0  # codec updates over which the learning rates rise
    method: Method = Method()
    average: float = 0.0  # what averaged weights keep in each update; 0: none are kept
    order: str = "codec_first"  # or "source_first"
    form: str = "one_pass"  # or "two_pass"
    source_steps: int = 1
    feed: str = "noisy"  # or "rounded": the reconstruction that q_θ sees
    accumulate: int = 1  # parts that each update's batch is computed in, one after another
    phases: Phases | None = None  # learning rates by codec update, in place of `lr` and `source_lr`

    @property
    def at_once(self) -> bool:
        """Whether one backward pass serves both networks."""
        return self.order == "codec_first" and self.form == "one_pass"

    def rates(self, step: int) -> tuple[float, float]:
        """Learning rates of φ and θ at codec update `step`."""
        phase = self if self.phases is None else self.phases.at(step)
        factor = self.factor(step)
        return phase.lr * factor, phase.source_lr * factor

    def factor(self, step: int) -> float:
        """What both learning rates are multiplied with at codec update `step`: rising to 1, then falling to 0.01."""
        risen = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        start = self.steps * (1 - self.decay)
        if self.schedule == "constant" or step < start:
            return risen
        along = (step - start) / max(1.0, self.steps - start)
        left = 1 - along if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * along))
        return risen * (0.01 + 0.99 * left)


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
        guard: skips and counts updates that are not finite.
        levels: sets each image's level, for a codec of variable rate.
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
        guard: Guard | None = None,
        levels: Levels | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.codec = codec
        self.regularizer = regularizer
        self.objective = objective
        self.optimization = optimization
        self.seed = seed
        self.identity = identity or {}
        self.guard = guard or Guard()
        self.levels = levels
        self.lowering = 1.0  # of the learning rates, by the guard
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            without_strided_pointwise(codec)
        self.codec.to(memory_format=self.memory_format)  # pyright: ignore[reportCallIssue]
        keep_entropy_in_float32(codec)
        without_read_backs(codec)
        self.noise = BatchNoise(codec)
        fed_otherwise = regularizer is not None and optimization.feed == "rounded"
        self.rounded = RoundedReconstruction(codec) if fed_otherwise else None
        self.stage: Callable[[str], AbstractContextManager[Any]] = lambda name: nullcontext()  # see profiling.py
        self.phi = trainable(codec)
        self.theta = list(regularizer.source.parameters()) if regularizer is not None else []
        alpha = regularizer.schedule.alpha if regularizer is not None else 0.0
        # Only q_θ learns then, and φ needs no gradient.
        self.codec_is_fixed = optimization.lr == 0 and alpha == 0 and optimization.phases is None
        self.average = Average([*self.phi, *self.theta], optimization.average) if optimization.average else None
        self.shown: dict[str, float] = {}

    # --- the alternating update ---------------------------------------------------------------------------------

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """One codec update (and its θ updates) on this process's uint8 crops, (B, 3, crop, crop)."""
        step, parts, regularizer = self.global_step, self.optimization.accumulate, self.regularizer
        self.guard.begin()
        self._set_rates(step)
        seen: list[tuple[Terms, Tensor | None]] = []
        for part, crops in enumerate(batch.chunk(parts)):
            terms, x, x_hat = self._forward(crops, step, part)
            if regularizer is None:
                source_bpp = None
                self._backward_at_once(terms.loss, part)
            elif self.optimization.order == "source_first":
                source_bpp = self._source_first(regularizer, x, x_hat, terms.loss, step)
            elif self.optimization.form == "two_pass":
                source_bpp = self._two_pass(regularizer, x, x_hat, terms.loss, step)
            else:
                with self.stage("q_theta"):
                    source_bpp = regularizer(x, x_hat, step)  # its gradient reaches x̂ times -α
                self._backward_at_once(terms.loss + source_bpp, part)
            seen.append((terms, source_bpp))
        if regularizer is None or self.optimization.at_once:
            self._clip(self.phi, self.theta)
            self._step_codec()
            self._step_source()
        self.guard.end()
        if self.average is not None:
            self.average.update(step)
        self._log(step, *_mean(seen))

    def _forward(self, crops: Tensor, step: int, part: int) -> tuple[Terms, Tensor, Tensor]:
        """The loss terms, x and the x̂ that q_θ sees, of one part of the update's batch."""
        torch.manual_seed(noise_seed(self.seed, step))
        ranks, parts = collectives.world(), self.optimization.accumulate
        self.noise.rows = share(len(crops) * ranks * parts, collectives.rank(), ranks, part, parts)
        if self.levels is not None:
            self.levels.begin(step, self.noise.rows, crops.device)
        with self.stage("codec forward"):
            x = (crops.float() / 255).contiguous(memory_format=self.memory_format)
            with torch.set_grad_enabled(not self.codec_is_fixed):
                out = self.codec(x)
                x_hat = out["x_hat"].float()
                fed = x_hat if self.rounded is None else self.rounded()
            terms = self.objective.terms(x, x_hat, out["likelihoods"].values())
        if self.levels is not None:
            self.levels.see()
        return terms, x, fed

    def _two_pass(self, regularizer: Regularizer, x: Tensor, x_hat: Tensor, loss: Tensor, step: int) -> Tensor:
        """The literal form of the one-pass update: φ's step at θ_t, then θ's on the same, detached x̂."""
        self._backward(loss + self._literal(regularizer, x, x_hat, step), self.phi)
        with self.stage("q_theta"):
            source_bpp = regularizer.source(x, x_hat.detach())  # θ has not moved; φ's step does not matter to it
        self._backward(source_bpp, self.theta)
        self._clip(self.phi, self.theta)
        self._step_codec()
        self._step_source()
        return source_bpp

    def _source_first(self, regularizer: Regularizer, x: Tensor, x_hat: Tensor, loss: Tensor, step: int) -> Tensor:
        """`source_steps` steps of θ on the detached x̂, then φ's step at the new θ, as GAN critics are trained."""
        source_bpp = torch.zeros(())
        for _ in range(self.optimization.source_steps):
            with self.stage("q_theta"):
                source_bpp = regularizer.source(x, x_hat.detach())
            self._backward(source_bpp, self.theta)
            self._clip(self.theta)
            self._step_source()
        self._backward(loss + self._literal(regularizer, x, x_hat, step), self.phi)
        self._clip(self.phi)
        self._step_codec()
        return source_bpp

    def _literal(self, regularizer: Regularizer, x: Tensor, x_hat: Tensor, step: int) -> Tensor:
        with self.stage("q_theta"):
            return regularizer.literal(x, x_hat, step)

    def _backward_at_once(self, loss: Tensor, part: int) -> None:
        """The backward pass of one part of the update's batch, through both networks."""
        parts = self.optimization.accumulate
        self.guard.see(loss)
        with self.stage("backward"), self._unshared(part + 1 < parts):
            self.manual_backward(loss / parts if parts > 1 else loss)

    def _backward(self, loss: Tensor, parameters: list[nn.Parameter]) -> None:
        """A backward pass into one network alone; DDP awaits every parameter, so its gradients are averaged here."""
        self.guard.see(loss)
        with self.stage("backward"):
            with self._unshared(True):
                self.manual_backward(loss, inputs=parameters)
            collectives.average_gradients(parameters)

    def _unshared(self, hold_back: bool) -> AbstractContextManager[Any]:
        """Where `hold_back`, a context in which DDP leaves the gradients to each process."""
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if hold_back and isinstance(strategy, DDPStrategy) else nullcontext()

    def _step_codec(self) -> None:
        self._step(self._optimizers[0])

    def _step_source(self) -> None:
        # Unwrapped: Lightning counts the steps of its wrappers, and a step is a codec update.
        if self.regularizer is not None:
            self._step(self._optimizers[1].optimizer)

    def _clip(self, *networks: list[nn.Parameter]) -> None:
        """Clip each network's gradient; if one of them or a loss was not finite, this update's steps do nothing."""
        with self.stage("optimizers"):
            norms = [torch.nn.utils.clip_grad_norm_(p, self.optimization.clip) for p in networks if p]
            self.guard.see(*norms)
            self.guard.agree()

    def _step(self, optimizer: LightningOptimizer | torch.optim.Optimizer) -> None:
        with self.stage("optimizers"):
            self.guard.govern(optimizer)
            optimizer.step()
            optimizer.zero_grad()

    # --- around it ----------------------------------------------------------------------------------------------

    @property
    def _optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]  # pyright: ignore[reportReturnType]

    def _set_rates(self, step: int) -> None:
        """Learning rates are functions of the step, as the noise is, so nothing else need be stored."""
        for optimizer, lr in zip(self._optimizers, self.optimization.rates(step), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = lr * self.lowering

    def on_train_start(self) -> None:
        """After a checkpoint is restored: α and the learning rates as the guard has lowered them."""
        self.lowering = self.guard.lowering()
        if self.regularizer is not None:
            self.regularizer.lowering = self.lowering

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One for φ and, where there is a q_θ, one for θ."""
        method = self.optimization.method
        phi = method.build(self.codec, self.phi, self.optimization.lr)
        if self.regularizer is None:
            return [phi]
        return [phi, method.build(self.regularizer.source, self.theta, self.optimization.source_lr)]

    def _log(self, step: int, terms: Terms, source_bpp: Tensor | None) -> None:
        """Read the step's values back and hand them on, every `log_every` updates: reading waits for the device."""
        every = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if (step + 1) % every:
            return
        own = torch.stack([*terms, terms.loss if source_bpp is None else source_bpp]).detach().float()
        read = (collectives.total(own) / collectives.world()).tolist()  # the batch of all processes
        values = dict(zip(terms._fields, read, strict=False))
        values["psnr_db"] = -10 * math.log10(max(values["mse_255"], 1e-10) / 255**2)
        values["lr"] = self.optimization.rates(step)[0] * self.lowering
        values["skipped"] = self.guard.read().skipped
        if self.regularizer is not None and source_bpp is not None:
            values["source_bpp"] = read[-1]
            values["alpha"] = self.regularizer.alpha_at(step)
            values["pressure"], values["capped"], values["along"] = self.regularizer.read_pressure()
            if isinstance(log_scale := getattr(self.regularizer.source, "log_scale", None), Tensor):
                values["log_scale"] = float(collectives.total(log_scale) / collectives.world())
        if self.levels is not None:
            values |= self.levels.read()
        self.shown = values
        if self.global_rank == 0:
            for logger in self.loggers:
                logger.log_metrics(values, step + 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what a resuming run checks before it goes on."""
        checkpoint["regicomp"] = self.identity


def _mean(parts: list[tuple[Terms, Tensor | None]]) -> tuple[Terms, Tensor | None]:
    """Terms and H_θ of a whole batch from those of its equal parts."""
    if len(parts) == 1:
        return parts[0]
    terms = Terms(
        *(torch.stack([t.detach() for t in column]).mean() for column in zip(*(p[0] for p in parts), strict=True))
    )
    entropies = [p[1].detach() for p in parts if p[1] is not None]
    return terms, torch.stack(entropies).mean() if entropies else None


def trainable(codec: nn.Module) -> list[nn.Parameter]:
    """The codec's parameters φ that the loss trains, in the model's order.

    The entropy bottleneck's quantiles are solved for before each evaluation (`EntropyBottleneck.update`), not
    trained; they are frozen here.
    """
    for module in codec.modules():
        if isinstance(module, EntropyBottleneck):
            module.quantiles.requires_grad_(False)
    return [p for p in codec.parameters() if p.requires_grad]
