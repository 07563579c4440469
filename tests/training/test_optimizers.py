"""SOAP and Muon: what an update is, and that the guard, resuming and several processes find them as they find Adam."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regicomp.config.settings import Settings
from regicomp.training.build import build_networks
from regicomp.training.optimizers import Method, Muon, Soap, orthogonalized, split

NETWORK = nn.Sequential(nn.Conv2d(3, 6, 5, 2, 2), nn.Conv2d(6, 6, 3, groups=6), nn.ConvTranspose2d(6, 4, 5, 2))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return copy.deepcopy(NETWORK).to(memory_format=torch.channels_last)  # pyright: ignore


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range, bad: tuple[int, ...] = ()) -> None:
    """Updates with gradients that are a function of the step, NaN in the bad ones."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for p in net.parameters():
            p.grad = torch.randn(p.shape, generator=generator) * (float("nan") if step in bad else 1)
        optimizer.found_inf = torch.tensor(float(step in bad))  # pyright: ignore
        optimizer.step()


def tensors(value: Any) -> list[Tensor]:
    """All tensors of a nested state."""
    if isinstance(value, Tensor):
        return [value.detach().clone()]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [t for item in items for t in tensors(item)]


def everything(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [*tensors(list(net.parameters())), *tensors(optimizer.state_dict()["state"])]


@pytest.mark.parametrize("name", ["adam", "soap", "muon"])
@pytest.mark.parametrize("first", [0, 1, 10])
def test_a_bad_update_changes_neither_parameters_nor_state(name: str, first: int) -> None:
    """Also where SOAP would set up its bases (update 0) or turn them (update 10)."""
    net = network()
    optimizer = Method(name).build(net, list(net.parameters()), 1e-2)
    train(net, optimizer, range(first))
    before = everything(net, optimizer)
    train(net, optimizer, range(first, first + 1), bad=(first,))
    after = everything(net, optimizer)
    if first:
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    else:
        assert all(torch.equal(a, b) for a, b in zip(before, after[: len(before)], strict=True))
        assert all(bool(t.isfinite().all()) for t in after)
    train(net, optimizer, range(first + 1, first + 25))
    assert all(bool(t.isfinite().all()) for t in everything(net, optimizer))
    assert not torch.equal(before[0], everything(net, optimizer)[0])


@pytest.mark.parametrize("name", ["adam", "soap", "muon"])
def test_a_step_is_float32_under_autocast(name: str) -> None:
    """Lightning's autocast is on where the module steps its optimizers itself."""
    found: list[list[Tensor]] = []
    for bf16 in (False, True):
        net = network()
        optimizer = Method(name, every=2).build(net, list(net.parameters()), 1e-2)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            train(net, optimizer, range(5))
        found.append(everything(net, optimizer))
    for exact, under_autocast in zip(*found, strict=True):
        assert torch.equal(exact, under_autocast)


@pytest.mark.parametrize("name", ["adam", "soap", "muon"])
def test_a_resumed_optimizer_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    straight = network()
    optimizer = Method(name).build(straight, list(straight.parameters()), 1e-2)
    train(straight, optimizer, range(14))
    torch.save({"net": straight.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "x.ckpt")
    train(straight, optimizer, range(14, 30))
    resumed = network()
    again = Method(name).build(resumed, list(resumed.parameters()), 1e-2)
    stored = torch.load(tmp_path / "x.ckpt", weights_only=True)
    resumed.load_state_dict(stored["net"])
    again.load_state_dict(stored["optimizer"])
    train(resumed, again, range(14, 30))
    for a, b in zip(everything(straight, optimizer), everything(resumed, again), strict=True):
        assert torch.equal(a, b)


def test_soap_is_the_library_s_for_a_matrix() -> None:
    library = pytest.importorskip("pytorch_optimizer")
    torch.manual_seed(0)
    ours, theirs = nn.Linear(9, 6, bias=False), nn.Linear(9, 6, bias=False)
    theirs.load_state_dict(ours.state_dict())
    before = ours.weight.detach().clone()
    one = Soap(list(ours.parameters()), [], 1e-2, momentum=0.9)
    other = library.SOAP(theirs.parameters(), lr=1e-2, betas=(0.9, 0.9), weight_decay=0.0)
    for _ in range(45):
        ours.weight.grad = torch.randn(6, 9) * torch.arange(1.0, 10)
        theirs.weight.grad = ours.weight.grad.clone()
        one.step()
        other.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)
    assert float((ours.weight.detach() - before).abs().max()) > 0.05


def test_muon_is_torch_s_for_a_matrix() -> None:
    """torch iterates in bfloat16, ours in float32."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(9, 6, bias=False), nn.Linear(9, 6, bias=False)
    theirs.load_state_dict(ours.state_dict())
    one = Muon(list(ours.parameters()), [], 1e-2)
    other = torch.optim.Muon(theirs.parameters(), lr=1e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    before = ours.weight.detach().clone()
    for _ in range(5):
        ours.weight.grad = torch.randn(6, 9)
        theirs.weight.grad = ours.weight.grad.clone()
        one.step()
        other.step()
    moved = ours.weight.detach() - before
    assert float((ours.weight - theirs.weight).detach().norm()) < 0.03 * float(moved.norm())


@pytest.mark.parametrize("shape", [(4, 30), (30, 4), (8, 8)])
def test_orthogonalized_keeps_singular_vectors_and_levels_singular_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.t() @ orthogonalized(matrix) @ v.t()
    assert 0.6 < float(found.diagonal().min()) <= float(found.diagonal().max()) < 1.3
    assert float((found - found.diagonal().diag()).abs().max()) < 1e-4


@pytest.mark.parametrize("name", ["adam", "soap", "muon"])
def test_updates_are_of_the_size_of_the_learning_rate(name: str) -> None:
    """So that a learning rate carries over from one optimizer to another."""
    net = network()
    optimizer = Method(name).build(net, list(net.parameters()), 1e-2)
    train(net, optimizer, range(30))
    before = [p.detach().clone() for p in net.parameters()]
    train(net, optimizer, range(30, 31))
    for p, old in zip(net.parameters(), before, strict=True):
        assert 5e-4 < float((p.detach() - old).square().mean().sqrt()) < 1.5e-2


def test_an_update_does_not_depend_on_the_memory_format() -> None:
    for name in ("soap", "muon"):
        one, other = network(), copy.deepcopy(NETWORK).to(memory_format=torch.contiguous_format)  # pyright: ignore
        other.load_state_dict(one.state_dict())
        for net in (one, other):
            train(net, Method(name).build(net, list(net.parameters()), 1e-2), range(3))
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_only_weights_that_mix_channels_are_matrices() -> None:
    net = nn.Sequential(*NETWORK, nn.Linear(4, 2), nn.LayerNorm(2))
    mixing, others = split(net, list(net.parameters()))
    assert {id(p) for p in mixing} == {id(net[i].weight) for i in (0, 2, 3)}
    assert len(mixing) + len(others) == len(list(net.parameters()))


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match=r"`optimizer.name` \(=sgd\) must be one of adam, soap, muon"):
        Method("sgd").build(NETWORK, [], 1e-3)


def test_no_step_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("soap", "muon"):
            net = network()
            train(net, Method(name).build(net, list(net.parameters()), 1e-2), range(12))


@pytest.mark.parametrize("backbone", ["hyperprior", "autoregressive", "attention", "elic", "mlicpp"])
@pytest.mark.parametrize("name", ["soap", "muon"])
def test_every_backbone_s_parameters_are_taken(resolved: Callable[..., Settings], backbone: str, name: str) -> None:
    """Of both networks, whatever their layers; each moves, and most parameters belong to mixing weights."""
    module = build_networks(resolved(f"backbone={backbone}", f"optimizer={name}"))
    assert module.regularizer is not None
    for net, parameters in ((module.codec, module.phi), (module.regularizer.source, module.theta)):
        optimizer = Method(name, every=2).build(net, parameters, 1e-3)
        before = [p.detach().clone() for p in parameters]
        for step in range(4):
            generator = torch.Generator().manual_seed(step)
            for p in parameters:
                p.grad = torch.randn(p.shape, generator=generator)
            optimizer.step()
        assert all(bool(p.isfinite().all()) for p in parameters)
        assert not any(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))
        assert sum(p.numel() for p in split(net, parameters)[0]) > 0.5 * sum(p.numel() for p in parameters)
