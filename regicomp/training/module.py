"""The LightningModule: a codec φ and its source entropy model θ, updated in alternation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
from regicomp.objective.psnr import psnr_db
from regicomp.objective.rate_distortion import RateDistortion, Terms
from regicomp.objective.regularizer import Regularizer
from regicomp.training import cuda_graph
from regicomp.training.averaging import Average
from regicomp.training.levels import Levels
from regicomp.training.nonfinite_guard import Guard
from regicomp.training.optimizers import Method
from regicomp.training.quantization import BatchNoise, RoundedReconstruction, decode_rounded, noise_seed, share


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
    gains_lr: float = 1.0  # learning rate of the gains of a codec of variable rate, as a part of `lr`
    average: float = 0.0  # what averaged weights keep in each update; 0: none are kept
    order: str = "codec_first"  # or "source_first"
    form: str = "one_pass"  # or "two_pass"
    source_steps: int = 1
    quantization: str = "noise"  # or "mixed": g_s decodes rounded latents
    feed: str = "noisy"  # or "rounded": the reconstruction that q_θ sees
    accumulate: int = 1  # parts that each update's batch is computed in, one after another
    phases: Phases | None = None  # learning rates by codec update, in place of `lr` and `source_lr`

    def rates(self, step: int) -> tuple[float, float]:
        """Learning rates of φ and θ at codec update `step`."""
        phase = self if self.phases is None else self.phases.at(step)
        factor = self.factor(step)
        return phase.lr * factor, phase.source_lr * factor

    def factor(self, step: int) -> float:
        """Factor of both learning rates at codec update `step`: rising to 1, then falling to 0.01."""
        risen = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        start = self.steps * (1 - self.decay)
        if self.schedule == "constant" or step < start:
            return risen
        along = (step - start) / max(1.0, self.steps - start)
        left = 1 - along if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * along))
        return risen * (0.01 + 0.99 * left)


class Seen(NamedTuple):
    """Values of an update, or of a part of it, for the log."""

    terms: Terms
    source_bpp: Tensor | None  # H_θ, where there is a q_θ


class RegularizedCodec(LightningModule):
    """Trains L(φ) = R + λD - α H_θ(X|X̂) and, in alternation, θ on H_θ.

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
        if optimization.quantization == "mixed":
            decode_rounded(codec)
        fed_otherwise = regularizer is not None and optimization.feed == "rounded"
        self.rounded = RoundedReconstruction(codec) if fed_otherwise else None
        self.phi = trainable(codec)
        self.theta = list(regularizer.source.parameters()) if regularizer is not None else []
        alpha = regularizer.schedule.alpha if regularizer is not None else 0.0
        # Only q_θ learns then, and φ needs no gradient.
        self.codec_is_fixed = optimization.lr == 0 and alpha == 0 and optimization.phases is None
        self.average = Average([*self.phi, *self.theta], optimization.average) if optimization.average else None
        self.shown: dict[str, float] = {}
        self.graphs: cuda_graph.UpdateGraphs | None = None  # set where updates are to be replayed from a CUDA graph

    # --- the alternating update (Algorithm 1 of the paper) --------------------------------------------------------

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """One codec update and its θ updates, on this process's uint8 crops, (B, 3, crop, crop)."""
        step = self.global_step
        self._begin(step)
        seen = self.compute_update(batch, step) if self.graphs is None else self.graphs.update(self, batch, step)
        self._end(step, *_mean(seen))

    def compute_update(self, batch: Tensor, step: int) -> list[Seen]:
        """Update both networks on this process's crops; what was seen of each part of them."""
        regularizer = self.regularizer
        if regularizer is None:
            return self._baseline(batch, step)
        if self.optimization.order == "source_first":
            return self._source_first(regularizer, batch, step)
        if self.optimization.form == "two_pass":
            return self._codec_first_in_two_passes(regularizer, batch, step)
        if self.optimization.accumulate > 1 and regularizer.alpha_at(step) > 0:
            return self._codec_first_in_parts(regularizer, batch, step)
        return self._codec_first(regularizer, batch, step)

    def _baseline(self, batch: Tensor, step: int) -> list[Seen]:
        """φ ← φ - η ∇(R + λD)."""
        seen: list[Seen] = []
        for part, crops in self._parts(batch):
            terms, _, _ = self._forward(crops, step, part)
            self._backward(terms.loss, part)
            seen.append(Seen(terms, None))
        self._update(self.phi)
        return seen

    def _codec_first(self, regularizer: Regularizer, batch: Tensor, step: int) -> list[Seen]:
        """φ ← φ - η ∇(R + λD - α H_θ) and θ ← θ - η ∇H_θ, both at (φ_t, θ_t), in one backward pass."""
        seen: list[Seen] = []
        for part, crops in self._parts(batch):
            terms, x, x_hat = self._forward(crops, step, part)
            source_bpp = regularizer(x, x_hat, step)  # H_θ; its gradient reaches x̂ times -α
            self._backward(terms.loss + source_bpp, part)
            seen.append(Seen(terms, source_bpp))
        self._update(self.phi, self.theta)
        return seen

    def _codec_first_in_two_passes(self, regularizer: Regularizer, batch: Tensor, step: int) -> list[Seen]:
        """The same update as the paper writes it: the codec's loss for φ, then H_θ on the same, detached x̂ for θ."""
        terms, x, x_hat = self._forward(batch, step)
        self._backward_into(self.phi, terms.loss + regularizer.literal(x, x_hat, step))
        source_bpp = regularizer.source(x, x_hat.detach())
        self._backward_into(self.theta, source_bpp)
        self._update(self.phi, self.theta)
        return [Seen(terms, source_bpp)]

    def _source_first(self, regularizer: Regularizer, batch: Tensor, step: int) -> list[Seen]:
        """`source_steps` times θ ← θ - η ∇H_θ on the detached x̂, then φ at the new θ, as GAN critics are trained."""
        terms, x, x_hat = self._forward(batch, step)
        source_bpp = torch.zeros(())
        for _ in range(self.optimization.source_steps):
            source_bpp = regularizer.source(x, x_hat.detach())
            self._backward_into(self.theta, source_bpp)
            self._update(self.theta)
        self._backward_into(self.phi, terms.loss + regularizer.literal(x, x_hat, step))
        self._update(self.phi)
        return [Seen(terms, source_bpp)]

    # --- its steps ------------------------------------------------------------------------------------------------

    def _codec_first_in_parts(self, regularizer: Regularizer, batch: Tensor, step: int) -> list[Seen]:
        """`_codec_first` for a batch that is computed in parts, with the pressure, and its bound, of the whole.

        H_θ's gradient by x̂ is taken from all parts first. Then each part goes through the codec a second time, now
        with its own share of the regularizer's gradient.
        """
        count, seen = self.optimization.accumulate, list[Seen]()
        grads_h, grads_d = list[Tensor](), list[Tensor]()
        for part, crops in self._parts(batch):
            with torch.no_grad():
                terms, x, x_hat = self._forward(crops, step, part)
            source_bpp = regularizer.source(x, x_hat.requires_grad_())
            self._backward_into([*self.theta, x_hat], source_bpp / count, share=False)
            grads_h.append(x_hat.grad)  # pyright: ignore[reportArgumentType]
            grads_d.append(self.objective.distortion_gradient(x, x_hat) / count)
            seen.append(Seen(terms, source_bpp))
        reversed_ = regularizer.reversed(torch.cat(grads_h), torch.cat(grads_d), step)
        for (part, crops), gradient in zip(self._parts(batch), reversed_.chunk(count), strict=True):
            terms, _, x_hat = self._forward(crops, step, part)
            self._backward_into(self.phi, terms.loss / count + (gradient * x_hat).sum(), share=False)
        collectives.average_gradients([*self.phi, *self.theta])
        self._update(self.phi, self.theta)
        return seen

    def _parts(self, batch: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The parts that `trainer.accumulate_grad_batches` divides this process's crops into, and their numbers."""
        yield from enumerate(batch.chunk(self.optimization.accumulate))

    def _forward(self, crops: Tensor, step: int, part: int = 0) -> tuple[Terms, Tensor, Tensor]:
        """The loss terms, x and the x̂ that q_θ sees, of one part of the update's batch."""
        if self.graphs is None or not self.graphs.capturing:
            self.draw(crops, step, part)
        x = (crops.float() / 255).contiguous(memory_format=self.memory_format)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.codec_is_fixed):
            out = self.codec(x)
            x_hat = out["x_hat"].float()
            fed = x_hat if self.rounded is None else self.rounded()
        terms = self.objective.terms(x, x_hat, out["likelihoods"].values())
        if self.levels is not None and torch.is_grad_enabled():  # once, where parts go through the codec twice
            self.levels.see()
        return terms, x, fed

    def draw(self, crops: Tensor, step: int, part: int = 0) -> None:
        """Set what is drawn at random for a part of update `step`'s batch: its noise, and the level of each image."""
        torch.manual_seed(noise_seed(self.seed, step))
        ranks, parts = collectives.world(), self.optimization.accumulate
        self.noise.rows = share(len(crops) * ranks * parts, collectives.rank(), ranks, part, parts)
        if self.levels is not None:
            self.levels.begin(step, self.noise.rows, crops.device)

    def _backward(self, loss: Tensor, part: int) -> None:
        """The backward pass of one part of the batch, into both networks; DDP averages the gradients in the last."""
        count = self.optimization.accumulate
        self.guard.see(loss)
        with self._unshared(part + 1 < count):
            self.manual_backward(loss / count if count > 1 else loss)

    def _backward_into(self, tensors: Sequence[Tensor], loss: Tensor, share: bool = True) -> None:
        """A backward pass into these alone; DDP awaits every parameter, so where they are shared, it is done here."""
        self.guard.see(loss)
        with self._unshared(True):
            self.manual_backward(loss, inputs=list(tensors))
        if share:
            collectives.average_gradients(tensors)

    def _unshared(self, hold_back: bool) -> AbstractContextManager[Any]:
        """Where `hold_back`, a context in which DDP leaves the gradients to each process."""
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if hold_back and isinstance(strategy, DDPStrategy) else nullcontext()

    def _update(self, *networks: list[nn.Parameter]) -> None:
        """Clip the gradient of φ, of θ, or of each, and step.

        If a loss or a gradient of this update was not finite, the steps change nothing.
        """
        self._clip(*networks)
        for network in networks:
            optimizer = self.optimizers_of_update[0 if network is self.phi else 1]
            self.guard.govern(optimizer)
            if self.graphs is not None and self.graphs.capturing:
                cuda_graph.compute(optimizer)
            else:
                optimizer.step()
            optimizer.zero_grad()

    def _clip(self, *networks: list[nn.Parameter]) -> None:
        moving = [p for p in networks if p and not (p is self.phi and self.codec_is_fixed)]
        norms = [torch.nn.utils.clip_grad_norm_(p, self.optimization.clip) for p in moving]
        self.guard.see(*norms)
        self.guard.agree()

    # --- around it ----------------------------------------------------------------------------------------------

    def _begin(self, step: int) -> None:
        self.guard.begin()
        self._set_rates(step)

    def _end(self, step: int, terms: Terms, source_bpp: Tensor | None) -> None:
        self.guard.end()
        if self.average is not None:
            self.average.update(step)
        self._log(step, terms, source_bpp)

    @property
    def _optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]  # pyright: ignore[reportReturnType]

    @property
    def optimizers_of_update(self) -> list[LightningOptimizer | torch.optim.Optimizer]:
        """φ's, and θ's unwrapped: Lightning counts the steps of its wrappers, and a step is a codec update."""
        return [self._optimizers[0], *(o.optimizer for o in self._optimizers[1:])]

    def _set_rates(self, step: int) -> None:
        """Learning rates are functions of the step, as the noise is, so nothing else need be stored."""
        for optimizer, lr in zip(self._optimizers, self.optimization.rates(step), strict=False):
            for group in optimizer.param_groups:
                rate = lr * self.lowering * group.get("part", 1.0)
                group["lr"] = rate if self.graphs is None else cuda_graph.held(group["lr"], rate, self.device)

    def on_train_start(self) -> None:
        """After a checkpoint is restored: α and the learning rates as the guard has lowered them."""
        self.lowering = self.guard.lowering()
        if self.regularizer is not None:
            self.regularizer.lowering = self.lowering

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One for φ and, where there is a q_θ, one for θ."""
        method = self.optimization.method
        phi = method.build(self.codec, self.phi, self.optimization.lr, self.optimization.gains_lr)
        if self.regularizer is None:
            return [phi]
        return [phi, method.build(self.regularizer.source, self.theta, self.optimization.source_lr)]

    def _log(self, step: int, terms: Terms, source_bpp: Tensor | None) -> None:
        """Read the step's values back and hand them on, after every `log_every_n_steps` updates and after the last.

        Reading waits for the device.
        """
        every = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if (step + 1) % every and step + 1 < self.optimization.steps:
            return
        own = torch.stack([*terms, terms.loss if source_bpp is None else source_bpp]).detach().float()
        read = (collectives.total(own) / collectives.world()).tolist()  # the batch of all processes
        values = dict(zip(terms._fields, read, strict=False))
        values["psnr_db"] = psnr_db(values["mse_255"])
        values["lr"] = self.optimization.rates(step)[0] * self.lowering
        values["skipped"] = self.guard.read().skipped
        if self.regularizer is not None and source_bpp is not None:
            values["source_bpp"] = read[-1]
            values["alpha"] = self.regularizer.alpha_at(step)
            values["pressure"], values["capped"], values["cosine"] = self.regularizer.read_pressure()
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

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A finished run that is extended goes on: for Lightning its epoch, the whole run, would be over."""
        checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False


def _mean(parts: list[Seen]) -> Seen:
    """Terms and H_θ of a whole batch from those of its equal parts."""
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(part.terms for part in parts), strict=True)
    terms = Terms(*(torch.stack([term.detach() for term in column]).mean() for column in columns))
    entropies = [part.source_bpp.detach() for part in parts if part.source_bpp is not None]
    return Seen(terms, torch.stack(entropies).mean() if entropies else None)


def trainable(codec: nn.Module) -> list[nn.Parameter]:
    """The codec's parameters φ that the loss trains, in the model's order.

    The entropy bottleneck's quantiles are solved for before each evaluation (`EntropyBottleneck.update`), not
    trained; they are frozen here.
    """
    for module in codec.modules():
        if isinstance(module, EntropyBottleneck):
            module.quantiles.requires_grad_(False)
    return [p for p in codec.parameters() if p.requires_grad]
