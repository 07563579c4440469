"""The numerical guard: what is skipped, counted, gone back from; and alarms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import quiet
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from regicomp.config.settings import Settings
from regicomp.training import nonfinite_guard
from regicomp.training.build import build_networks
from regicomp.training.collapse_alarms import Alarms
from regicomp.training.module import RegularizedCodec
from regicomp.training.nonfinite_guard import Guard

Resolved = Callable[..., Settings]


def _fit(module: RegularizedCodec, cfg: Settings, *callbacks: Any) -> None:
    quiet.fit(module, cfg, callbacks=list(callbacks))


def _spoil(module: RegularizedCodec, steps: set[int], network: str, value: float) -> None:
    """Put `value` into one gradient of φ or θ, or into the loss, of these updates."""
    clip = module._clip

    def spoilt(*networks: list[torch.nn.Parameter]) -> None:
        if module.global_step in steps and network == "loss":
            module.guard.see(torch.tensor(value))
        elif module.global_step in steps and (gradient := getattr(module, network)[3].grad) is not None:
            gradient.view(-1)[0] = value
        clip(*networks)

    module._clip = spoilt


def _state(module: RegularizedCodec) -> list[torch.Tensor]:
    """Parameters and Adam's moments and steps of both networks."""
    optimizers = [o.optimizer for o in module._optimizers]
    moments = [t for o in optimizers for state in o.state.values() for t in state.values()]
    return [t.detach().clone() for t in (*module.phi, *module.theta, *moments)]


@pytest.mark.parametrize("update", ["reg.form=one_pass", "reg.form=two_pass"])
@pytest.mark.parametrize(("network", "value"), [("phi", float("nan")), ("theta", float("inf")), ("loss", float("nan"))])
def test_a_bad_update_changes_nothing_of_either_network(
    resolved: Resolved, update: str, network: str, value: float
) -> None:
    cfg = resolved("trainer.max_steps=3", "reg.warmup_steps=0", update)
    module = build_networks(cfg)
    _spoil(module, {1}, network, value)
    seen: list[list[torch.Tensor]] = []

    class Keep(nonfinite_guard.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            seen.append(_state(module))

    _fit(module, cfg, Keep())
    assert all(torch.equal(a, b) for a, b in zip(seen[0], seen[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(seen[1], seen[2], strict=True))
    assert all(bool(torch.isfinite(t).all()) for t in seen[2])
    assert module.guard.read() == (1, 0, 1, 0)


def test_source_first_skips_what_follows(resolved: Resolved) -> None:
    """θ's first step is bad: neither its second nor φ's is taken."""
    cfg = resolved("trainer.max_steps=1", "reg.warmup_steps=0", "reg.order=source_first", "reg.source_steps=2")
    module = build_networks(cfg)
    before = [p.detach().clone() for p in (*module.phi, *module.theta)]
    _spoil(module, {0}, "theta", float("nan"))
    _fit(module, cfg)
    assert all(torch.equal(a, b) for a, b in zip(before, (*module.phi, *module.theta), strict=True))
    assert module.guard.read().skipped == 1


class _Reads(TorchDispatchMode):
    """Counts values read back from tensors, which would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_the_guard_never_waits_for_the_device() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter], 0.1, fused=True)
    watched = Guard()
    with _Reads() as reads:
        for value in (1.0, float("nan")):
            parameter.grad = torch.full((3,), value)
            watched.begin()
            watched.see(parameter.grad.sum(), torch.nn.utils.clip_grad_norm_([parameter], 1.0))
            watched.agree()
            watched.govern(optimizer)
            optimizer.step()
            watched.end()
    assert reads.count == 0
    assert watched.read() == (1, 1, 1, 0)


def test_counts_are_in_the_checkpoint_and_the_lowering_acts(resolved: Resolved) -> None:
    cfg = resolved("trainer.max_steps=1", "reg.warmup_steps=0", "reg.alpha=0.1")
    one = build_networks(cfg)
    one.guard.skipped.fill_(5)
    one.guard.row.fill_(2)
    state = one.state_dict()
    assert not nonfinite_guard.is_good(state)
    nonfinite_guard.lower_once_more(state)
    assert nonfinite_guard.is_good(state)
    other = build_networks(cfg)
    other.load_state_dict(state)
    assert other.guard.read() == (5, 0, 0, 1)
    _fit(other, cfg)
    assert other._optimizers[0].param_groups[0]["lr"] == 0.5 * one.optimization.lr
    assert other.regularizer is not None
    assert other.regularizer.alpha_at(10**6) == 0.05


def test_a_state_with_nan_is_not_good(resolved: Resolved) -> None:
    state = build_networks(resolved()).state_dict()
    assert nonfinite_guard.is_good(state)
    state["regularizer.rho"] = torch.tensor(float("nan"))  # a measurement, overwritten by the next update
    assert nonfinite_guard.is_good(state)
    state[next(name for name in state if name.endswith("weight"))] *= float("nan")
    assert not nonfinite_guard.is_finite(state)


def _rows(**values: float) -> dict[str, float]:
    return {"source_bpp": 10.0, "log_scale": 0.0, "capped": 0.0, **values}


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ({"log_scale": -0.95}, "source.initial_scale"),
        ({"log_scale": 0.95}, "optimizer.source_lr"),
        ({"source_bpp": 0.01}, "objective.lmbda"),
        ({"capped": 10.0}, "reg.ramp_steps"),
    ],
)
def test_alarms_come_once_and_only_when_it_lasts(row: dict[str, float], advice: str) -> None:
    alarms = Alarms(3)
    assert alarms(_rows(), 10) == []

    def at(step: int) -> list[str]:
        return alarms(_rows(**{k: v * step / 10 if k == "capped" else v for k, v in row.items()}), step)

    told = [at(step) for step in range(20, 80, 10)]
    assert [len(lines) for lines in told] == [0, 0, 1, 0, 0, 0] if "capped" not in row else sum(map(len, told)) == 1
    (line,) = [line for lines in told for line in lines]
    assert advice in line
    assert alarms({"rate_bpp": 1.0}, 100) == []  # no q_θ, no alarm
