"""The optimizers of conf/optimizer: Adam, and SOAP and Muon for weights that mix channels, with Adam for the rest.

All take learning rates in Adam's unit: about what the root mean square of an update is. All heed `found_inf`, the
verdict of the non-finite guard: where it is 1, a step changes neither parameters nor state. None waits for the device.

Legend: A, B channels of a weight's first and second axis, T taps of a kernel (5·5 = 25), or 1 of a linear map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from regicomp.backbone import variable_rate


class Method(NamedTuple):
    """Which optimizer, and its constants (conf/optimizer)."""

    name: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)  # Adam's; of SOAP and Muon, those of the parameters left to Adam
    momentum: float = 0.95  # of mixing weights: Muon's, and both of SOAP's averages
    every: int = 10  # updates between SOAP's new eigenbases

    def build(
        self, network: nn.Module, parameters: Sequence[nn.Parameter], lr: float, gains_lr: float = 1.0
    ) -> torch.optim.Optimizer:
        """The optimizer of `parameters`, which belong to `network`.

        Args:
            network: codec or source model.
            parameters: those to train.
            lr: learning rate.
            gains_lr: that of the gains of a codec of variable rate, as a part of `lr`; its group keeps it as `part`.

        Raises:
            ValueError: the method has another name.
        """
        gains = variable_rate.gains_of(network)
        apart = set() if gains is None or gains_lr == 1 else {id(p) for p in gains.parameters()}
        optimizer = self._build(network, [p for p in parameters if id(p) not in apart], lr)
        if slow := [p for p in parameters if id(p) in apart]:
            optimizer.add_param_group({"params": slow, "mixing": False, "part": gains_lr})
        return optimizer

    def _build(self, network: nn.Module, parameters: Sequence[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        if self.name == "adam":
            return torch.optim.Adam(parameters, lr, betas=self.betas, fused=True)
        mixing, others = split(network, parameters)
        if self.name == "soap":
            return Soap(mixing, others, lr, self.momentum, self.betas, every=self.every)
        if self.name == "muon":
            return Muon(mixing, others, lr, self.momentum, self.betas)
        raise ValueError(f"`optimizer.name` (={self.name}) must be one of adam, soap, muon")


def split(network: nn.Module, parameters: Sequence[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weights among `parameters` that mix channels, of convolutions and linear maps, and all other parameters.

    Biases, GDN's norms, the entropy bottleneck's densities, grouped convolutions and tables are among the others.
    """
    mixing = {
        id(m.weight)
        for m in network.modules()
        if isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d | nn.ConvTranspose2d) and m.groups == 1)
    }
    return [p for p in parameters if id(p) in mixing], [p for p in parameters if id(p) not in mixing]


class Mixed(torch.optim.Optimizer):
    """One method for mixing weights, fused Adam for other parameters.

    Args:
        mixing: weights of two or four axes.
        others: all other parameters.
        lr: learning rate of both.
        momentum: of the mixing weights.
        betas: Adam's, of the others.
        eps: added to Adam's (and SOAP's) denominators.
        constants: of the method, kept in its group.
    """

    found_inf: Tensor | None = None

    def __init__(
        self,
        mixing: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        **constants: Any,
    ) -> None:
        groups = [{"params": list(mixing), "mixing": True, **constants}, {"params": list(others), "mixing": False}]
        defaults = {"lr": lr, "momentum": momentum, "betas": tuple(betas), "eps": eps}
        super().__init__([g for g in groups if g["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step in float32, whatever autocast is; one that changes nothing where the verdict is bad."""
        del closure  # Lightning's does nothing under manual optimization but close over the step
        self.compute()
        with torch.no_grad(), self._in_float32():
            self._prepare_next()

    @torch.no_grad()
    def compute(self) -> None:
        """A step without what `step` does after some of them only: the same operations each time."""
        with self._in_float32():
            self._step()

    def _in_float32(self) -> torch.autocast:
        return torch.autocast(self.param_groups[0]["params"][0].device.type, enabled=False)

    def _prepare_next(self) -> None:
        """Work between two steps, such as new bases; none, unless a method overrides it."""

    def _step(self) -> None:
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            if not group["mixing"]:
                self._adam(group, parameters)
                continue
            bad = self.found_inf
            good = torch.ones((), device=parameters[0].device) if bad is None else 1 - bad
            for p in parameters:
                gradient = p.grad if bad is None else torch.where(good > 0, p.grad, 0.0)  # pyright: ignore
                p.sub_(_unfolded(self._update(group, self.state[p], _folded(gradient), good), p))  # pyright: ignore

    def _update(self, group: dict[str, Any], state: dict[str, Any], gradient: Tensor, good: Tensor) -> Tensor:
        """The update to subtract from a weight, (A, T, B), whose gradient is (A, T, B) and zero where `good` is 0."""
        raise NotImplementedError

    def _adam(self, group: dict[str, Any], parameters: list[nn.Parameter]) -> None:
        for p in parameters:
            if not self.state[p]:
                zeros = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                self.state[p].update(step=torch.zeros((), device=p.device), **zeros)
        states = [self.state[p] for p in parameters]
        adam(
            parameters,  # pyright: ignore[reportArgumentType]
            [p.grad for p in parameters],  # pyright: ignore[reportArgumentType]
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            [s["step"] for s in states],
            fused=True,
            found_inf=self.found_inf,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )


class Muon(Mixed):
    """Muon (Jordan et al. 2024) with updates of Adam's size (Liu et al. 2025).

    The momentum of a weight, as a matrix of A × (T·B), is replaced by one of the same singular vectors whose singular
    values are about 1. In float32: not every processor is fast at bf16, and these products are a small share.
    """

    def _update(self, group: dict[str, Any], state: dict[str, Any], gradient: Tensor, good: Tensor) -> Tensor:
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, (1 - group["momentum"]) * good)
        matrix = gradient.lerp(state["momentum"], group["momentum"]).flatten(1)
        size = 0.2 * math.sqrt(max(matrix.shape)) * group["lr"]
        return (orthogonalized(matrix) * (size * good)).view(gradient.shape)


def orthogonalized(matrix: Tensor, steps: int = 5) -> Tensor:
    """A matrix of the same singular vectors and singular values of 0.7 to 1.2, by Newton-Schulz iterations.

    The coefficients are Jordan's (kellerjordan.github.io/posts/muon), which rise steepest at zero.
    """
    x = matrix / (matrix.norm() + 1e-7)
    x = x.t() if (tall := x.shape[0] > x.shape[1]) else x
    for _ in range(steps):
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.t() if tall else x


class Soap(Mixed):
    """SOAP (Vyas et al. 2024): Adam in the eigenbases of Shampoo's preconditioner, one of each axis of (A, T, B).

    For a linear map the updates are those of `pytorch_optimizer.SOAP`; a kernel's taps are one axis here and two there.
    The first moment is kept in the eigenbasis, which saves a third of the projections. Both moments and the Gram
    matrices decay by `momentum`. As there, the first update only sets up the bases.

    Args:
        every: updates between new eigenbases; the others are `Mixed`'s.
    """

    def __init__(self, *args: Any, every: int = 10, **settings: Any) -> None:
        super().__init__(*args, **settings, every=every)

    def _update(self, group: dict[str, Any], state: dict[str, Any], gradient: Tensor, good: Tensor) -> Tensor:
        memory = group["momentum"]
        share = (1 - memory) * good
        if not state:
            grams = [gram * share for gram in _grams(gradient)]
            zeros = {name: torch.zeros_like(gradient) for name in ("first", "second")}
            state.update(
                step=torch.zeros_like(good), calls=-1, gram=grams, basis=[_eigenbasis(g) for g in grams], **zeros
            )
            return zeros["first"]
        basis = state["basis"]
        turned = _turn(gradient, basis)
        state["step"].add_(good)
        state["first"].lerp_(turned, share)
        state["second"].lerp_(turned.square(), share)
        forgotten = 1 - memory ** state["step"]  # 0 if no step was good yet, and then there is no update either
        size = group["lr"] * good * forgotten.clamp_min(1e-30).rsqrt()
        update = _turn(state["first"] / state["second"].sqrt().add_(group["eps"]), basis, back=True) * size
        for gram, new in zip(state["gram"], _grams(gradient), strict=True):
            gram.lerp_(new, share)
        return update

    def _prepare_next(self) -> None:
        """Count the step, and give every weight new eigenbases after each `every` of them."""
        for group in self.param_groups:
            for state in [self.state[p] for p in group["params"] if group["mixing"] and self.state[p]]:
                state["calls"] += 1
                if state["calls"] > 0 and state["calls"] % group["every"] == 0:
                    _turn_on(state, torch.ones_like(state["step"]) if self.found_inf is None else 1 - self.found_inf)


def _grams(x: Tensor) -> list[Tensor]:
    """The Gram matrices of the three axes of (A, T, B)."""
    rows = [x.movedim(axis, 0).flatten(1) for axis in range(3)]
    return [r @ r.t() for r in rows]


def _eigenbasis(gram: Tensor) -> Tensor:
    """Eigenvectors as columns, of the largest eigenvalue first."""
    tiny = 1e-30 * torch.eye(len(gram), device=gram.device, dtype=gram.dtype)
    return torch.linalg.eigh(gram + tiny).eigenvectors.flip(1).contiguous()


def _turn(x: Tensor, basis: list[Tensor], back: bool = False) -> Tensor:
    """(A, T, B) in the coordinates of the three bases, or back from them."""
    a, t, b = basis if back else (q.t() for q in basis)
    x = torch.mm(a, x.flatten(1)).view(x.shape)
    x = torch.mm(x.flatten(0, 1), b.t()).view(x.shape)
    return torch.matmul(t, x) if x.shape[1] > 1 else x


def _turn_on(state: dict[str, Any], good: Tensor) -> None:
    """One round of power iteration on every basis, and the moments into the new ones."""
    before, second, after = state["basis"], state["second"], list[Tensor]()
    for axis, (gram, basis) in enumerate(zip(state["gram"], before, strict=True)):
        power = gram @ basis
        order = (basis * power).sum(0).argsort(descending=True)
        second = second.index_select(axis, order)
        after.append(torch.linalg.qr(power.index_select(1, order)).Q)
    first = _turn(_turn(state["first"], before, back=True), after)
    for old, new in zip([state["first"], state["second"], *before], [first, second, *after], strict=True):
        old.copy_(torch.where(good > 0, new, old))  # in place, where a CUDA graph reads them


def _folded(weight: Tensor) -> Tensor:
    """(A, B, h, w) or (A, B) -> (A, T, B)."""
    return weight.permute(0, 2, 3, 1).flatten(1, 2) if weight.ndim == 4 else weight[:, None]


def _unfolded(x: Tensor, like: Tensor) -> Tensor:
    """(A, T, B) -> (A, B, h, w) or (A, B)."""
    return x.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2) if like.ndim == 4 else x[:, 0]
