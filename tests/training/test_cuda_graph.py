"""Updates replayed from a graph. Here a stand-in replays by computing again what it was given, as a graph would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import quiet
import torch

from regicomp.config.settings import Settings
from regicomp.training.build import build_networks
from regicomp.training.cuda_graph import UpdateGraphs
from regicomp.training.module import RegularizedCodec

Resolved = Callable[..., Settings]
USUAL = ("trainer.max_steps=24", "data.images=4", "data.batch_size=2", "data.crop=64", "reg.alpha=0.5")
SCHEDULE = ("reg.warmup_steps=7", "reg.ramp_steps=2")
# Learning rates that float32 has exactly, rising ones too: a graph reads them in float32.
SCHEDULE += (
    "optimizer.lr=0.0009765625",
    "optimizer.source_lr=0.001953125",
    "optimizer.warmup=8",
    "optimizer.schedule=constant",
)
SOAP = ("optimizer=soap", "optimizer.every=3", "rate=variable")


class StandIn:
    """Captures nothing and computes at each replay; counts both."""

    def __init__(self) -> None:
        self.captures = self.replays = 0
        self.graphs = UpdateGraphs(self.capture)

    def capture(self, run: Callable[[], Any]) -> Callable[[], Any]:
        self.captures += 1

        def replay() -> None:
            self.replays += 1
            self.graphs.capturing = True
            run()
            self.graphs.capturing = False

        return replay


def _trained(settings: Settings, graphs: UpdateGraphs | None = None) -> RegularizedCodec:
    module = build_networks(settings)
    module.graphs = graphs
    quiet.fit(module, settings)
    return module


@pytest.mark.parametrize("how", [SOAP, (*SOAP, "reg.alpha=0"), ("optimizer=adam",)])
def test_replayed_updates_equal_launched_ones(resolved: Resolved, how: tuple[str, ...]) -> None:
    """Weights of both networks, α's ramp, new bases, and every count; nothing of an update lies outside."""
    settings = resolved(*USUAL, *SCHEDULE, *how)
    launched, stand_in = _trained(settings), StandIn()
    replayed = _trained(settings, stand_in.graphs)
    ramps = settings.regularizer.alpha > 0
    assert stand_in.captures == (2 if ramps else 1)  # α = 0 and its full value; not in between
    assert stand_in.replays == (24 - 2 - 2 * 4 if ramps else 24 - 4)
    assert replayed.global_step == launched.global_step == 24
    for name, value in launched.state_dict().items():
        assert torch.equal(replayed.state_dict()[name], value), name


def test_a_failed_capture_is_told_and_the_run_goes_on(resolved: Resolved, caplog: pytest.LogCaptureFixture) -> None:
    def capture(run: Callable[[], Any]) -> Callable[[], Any]:
        raise RuntimeError("operation not permitted when stream is capturing")

    settings = resolved(*USUAL, *SCHEDULE, *SOAP)
    found, expected = _trained(settings, UpdateGraphs(capture)), _trained(settings)
    assert [r.message for r in caplog.records if "CUDA graph" in r.message] == [
        "no CUDA graph of the update, which is launched as usual: operation not permitted when stream is capturing"
    ]
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


@pytest.mark.parametrize(
    "setting",
    [
        "strategy=cpu",
        "trainer.accumulate_grad_batches=2",
        "reg.order=source_first",
        "objective=ms_ssim",
        "compile=true",
    ],
)
def test_what_a_graph_cannot_hold_is_refused(resolved: Resolved, setting: str) -> None:
    with pytest.raises(ValueError, match=setting.split("=")[0].split(".")[0]):
        resolved(*USUAL, "cuda_graph=true", "data.crop=192", setting)
