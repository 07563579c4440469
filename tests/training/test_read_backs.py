"""An update is queued on the device without a wait: no value is read back but where a row is logged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import quiet
import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from regicomp.backbone.entropy_bottleneck import without_read_backs
from regicomp.config.settings import Settings
from regicomp.training.build import build_networks

Resolved = Callable[..., Settings]
# What a device must finish before the program knows how to go on.
WAITS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique", "allclose")


class ReadBacks(TorchDispatchMode):
    """Names of the operations within it that wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = [i for a in args if isinstance(a, (list, tuple)) for i in a if isinstance(i, Tensor)]
        if name in WAITS or (name.startswith("index") and any(m.dtype == torch.bool for m in masks)):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def _read_backs(cfg: Settings, log_every: int) -> list[list[str]]:
    """Those of each update but the last, which is always logged."""
    module = build_networks(cfg)
    updates: list[list[str]] = []
    update = module.training_step

    def watched(batch: Tensor, batch_idx: int) -> None:
        with ReadBacks() as read:
            update(batch, batch_idx)
        updates.append(read.found)

    module.training_step = watched  # pyright: ignore[reportAttributeAccessIssue]
    quiet.fit(module, cfg, log_every_n_steps=log_every)
    return updates[:-1]


@pytest.mark.parametrize("backbone", ["hyperprior", "autoregressive", "attention", "elic", "mlicpp"])
def test_an_update_reads_nothing_back(resolved: Resolved, backbone: str) -> None:
    cfg = resolved(f"backbone={backbone}", "trainer.max_steps=3", "reg.warmup_steps=1")
    assert _read_backs(cfg, log_every=10) == [[], []]


@pytest.mark.parametrize(
    "unusual", ["reg.form=two_pass", "reg=critic", "reg.feed=rounded", "reg.project=true", "reg.per_image=true"]
)
def test_nor_does_an_unusual_one(resolved: Resolved, unusual: str) -> None:
    assert _read_backs(resolved("trainer.max_steps=3", "reg.warmup_steps=1", unusual), log_every=10) == [[], []]


def test_nor_with_another_s_codec(resolved: Resolved) -> None:
    arguments = ["~backbone.N", "~backbone.M", "+backbone.N=8", "+backbone.M=8"]
    target = "backbone._target_=compressai.models.MeanScaleHyperprior"
    cfg = resolved(target, *arguments, "trainer.max_steps=3", "reg.warmup_steps=1")
    assert _read_backs(cfg, log_every=10) == [[], []]


def test_a_logged_row_is_read_back(resolved: Resolved) -> None:
    """So the counting counts."""
    first, second = _read_backs(resolved("trainer.max_steps=3"), log_every=2)
    assert first == []
    assert second


@pytest.mark.parametrize("shape", [(2, 6, 3, 5), (3, 6, 4), (2, 6)])
@pytest.mark.parametrize("training", [True, False])
def test_the_bottleneck_computes_the_very_same(shape: tuple[int, ...], training: bool) -> None:
    torch.manual_seed(0)
    original = EntropyBottleneck(6)
    with torch.no_grad():
        original.quantiles[:, 0, 1] += torch.rand(6)
    changed = copy.deepcopy(original)
    without_read_backs(torch.nn.ModuleList([changed]))
    changed = copy.deepcopy(changed)
    z = 4 * torch.randn(shape)
    found: list[list[Tensor]] = []
    for module in (original, changed):
        torch.manual_seed(1)
        leaf = z.clone().requires_grad_()
        z_hat, likelihoods = module(leaf, training=training)
        (z_hat.sum() - likelihoods.log().sum()).backward()
        assert leaf.grad is not None
        found.append([z_hat, likelihoods, leaf.grad, *(p.grad for p in module.parameters() if p.grad is not None)])
    for theirs, ours in zip(*found, strict=True):
        assert torch.equal(theirs, ours)
    assert list(changed.state_dict()) == list(original.state_dict())


def test_a_bottleneck_of_another_kind_keeps_its_own_forward() -> None:
    class Own(EntropyBottleneck):
        def forward(self, x: Tensor, training: bool | None = None) -> Any:
            return x, torch.ones_like(x)

    own = Own(4)
    without_read_backs(own)
    assert torch.equal(own(torch.zeros(1, 4, 2, 2))[1], torch.ones(1, 4, 2, 2))
