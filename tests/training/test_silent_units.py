"""Units that no image excites are counted, and a warning says what to change."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import quiet
import torch
from torch import nn

from regicomp.config.settings import Settings
from regicomp.training import silent_units
from regicomp.training.build import build_networks
from regicomp.training.silent_units import Layer, SilentUnits

Resolved = Callable[..., Settings]


def _network(bias: list[float]) -> nn.Sequential:
    """A convolution without weights, so that its units are its biases, before ReLU, GELU and LeakyReLU."""
    network = nn.Sequential()
    for activation in (nn.ReLU(), nn.GELU(), nn.LeakyReLU()):
        conv = nn.Conv2d(3, len(bias), 1)
        nn.init.zeros_(conv.weight)
        conv.bias = nn.Parameter(torch.tensor(bias))
        network.append(nn.Sequential(conv, activation))
    return network


def test_channels_that_stay_at_zero_are_counted() -> None:
    network = _network([1.0, -100.0, 0.5])

    def run() -> None:
        for part in network:
            part(torch.rand(2, 3, 4, 5))

    assert silent_units.layers(network, run) == [Layer("0.1", 1, 3), Layer("1.1", 1, 3)]
    assert not any(module._forward_hooks for module in network.modules())  # pyright: ignore[reportPrivateUsage]


def test_a_unit_that_one_batch_excites_is_alive() -> None:
    relu = nn.Sequential(nn.ReLU())
    batches = torch.tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0]])
    assert silent_units.layers(relu, lambda: [relu(batch[None]) for batch in batches]) == [Layer("0", 1, 3)]


@pytest.mark.parametrize(
    ("silent", "said"),
    [
        ([1, 7], None),
        ([2, 0], "all units of h_a.1 stay at 0 on this batch: "),
        ([2, 8], "all units of h_a.1, h_a.3 stay at 0 on this batch: "),
    ],
)
def test_a_whole_layer_is_worth_a_warning(silent: list[int], said: str | None) -> None:
    line = silent_units.warning([Layer("h_a.1", silent[0], 2), Layer("h_a.3", silent[1], 8)], 5e-3)
    assert (line is None) == (said is None)
    if line is not None and said is not None:
        assert line.startswith(said)
        assert line.endswith("`optimizer.lr` (=0.005)")


@pytest.mark.parametrize("more", [[], ["trainer.accumulate_grad_batches=2", "data.batch_size=4"], ["rate=variable"]])
def test_a_training_whose_hyper_analysis_is_silent_says_so_once_and_is_the_same(
    resolved: Resolved, caplog: pytest.LogCaptureFixture, more: list[str]
) -> None:
    def trained(*callbacks: SilentUnits) -> list[torch.Tensor]:
        cfg = resolved("backbone=elic", "trainer.max_steps=3", "reg=off", *more)
        module = build_networks(cfg)
        conv = module.codec.get_submodule("latent_codec.hyper.h_a.2")
        with torch.no_grad():
            conv.bias.fill_(-1e4)  # pyright: ignore
        quiet.fit(module, cfg, callbacks=list(callbacks))
        return [p.detach().clone() for p in module.phi]

    with caplog.at_level(logging.WARNING):
        watched = trained(SilentUnits(3))
    lines = [r.getMessage() for r in caplog.records if "stay at 0" in r.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("update 1: ")
    assert "latent_codec.hyper.h_a.3" in lines[0]
    assert all(torch.equal(a, b) for a, b in zip(watched, trained(), strict=True))
