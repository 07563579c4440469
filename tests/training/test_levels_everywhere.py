"""Variable rate however a run is computed: resumed, in parts, in several precisions, compiled, planned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import quiet
import torch
from torch import Tensor

from regicomp.backbone import precision, variable_rate
from regicomp.config.settings import Settings
from regicomp.evaluation import classical_codecs, summary_picture
from regicomp.training import cost_estimate
from regicomp.training.build import build_networks
from regicomp.training.module import RegularizedCodec
from regicomp.training.quantization import Rows
from regicomp.training.run import train

Resolved = Callable[..., Settings]
USUAL = ("rate=variable", "data.images=4", "reg.alpha=1", "reg.warmup_steps=1", "reg.ramp_steps=0", "optimizer.lr=1e-3")


def _trained(settings: Settings, **arguments: Any) -> RegularizedCodec:
    module = build_networks(settings)
    quiet.fit(module, settings, **arguments)
    return module


def _weights(module: RegularizedCodec) -> list[Tensor]:
    """φ and θ, flat."""
    return [torch.cat([p.detach().flatten() for p in network]) for network in (module.phi, module.theta)]


def _of_levels(module: RegularizedCodec) -> dict[str, float]:
    """Rate and PSNR of every level, of all updates."""
    return {name: value for name, value in module.shown.items() if name[-2] == "_" and name[-1].isdigit()}


@pytest.mark.parametrize("how", ["reg.max_pressure=0.02", "reg.pressure=0.1", "reg.alpha=[0,1,0,0.1,2,0.3]"])
def test_a_batch_in_parts_is_the_same_update(resolved: Resolved, how: str) -> None:
    """Levels go by the place in the update's whole batch: ρ, what each level came to, and both networks are equal."""
    common = (*USUAL, "trainer.max_steps=3", "data.batch_size=8", how)
    found = [_trained(resolved(*common, f"trainer.accumulate_grad_batches={parts}")) for parts in (1, 2, 4)]
    start, whole = _weights(build_networks(resolved(*common))), found[0]
    assert whole.regularizer is not None
    rho, capped, cosine = whole.regularizer.read_pressure()
    assert rho > 0
    assert len(_of_levels(whole)) == 12
    for parts in found[1:]:
        assert parts.regularizer is not None
        again = parts.regularizer.read_pressure()
        assert again == (pytest.approx(rho, rel=1e-4), capped, pytest.approx(cosine, abs=1e-5))
        assert _of_levels(parts) == pytest.approx(_of_levels(whole), rel=1e-4)
        for here, there, first in zip(_weights(parts), _weights(whole), start, strict=True):
            # Adam makes whole steps of gradients that are zero but for rounding.
            assert float((here - there).norm()) < 0.01 * float((there - first).norm())


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")  # as of the command line
def test_a_resumed_run_equals_a_straight_one(
    resolved: Resolved, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: weights, gains, q_θ with what it is told, every row of metrics.csv, every figure of the record."""
    monkeypatch.setattr(summary_picture, "draw", lambda *arguments: None)
    monkeypatch.setattr(classical_codecs, "cached", lambda *arguments: [])
    common = (*USUAL, "trainer.max_steps=6", "data.batch_size=3", "trainer.checkpoint_every=4", "evaluation.images=1")
    common += ("trainer.log_every_n_steps=3", "testsets=[]", f"data.test_dirs=[{folder}]")
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    straight.mkdir()
    expected = train(resolved(*common), straight)
    (resumed / "checkpoints").mkdir(parents=True)
    for name in ("metrics.csv", "checkpoints/step-000000004.ckpt"):
        shutil.copy(straight / name, resumed / name)
    found = train(resolved(*common, "ckpt=last"), resumed)
    for name in ("codec.safetensors", "source.safetensors", "metrics.csv"):
        assert (resumed / name).read_bytes() == (straight / name).read_bytes(), name
    assert len((straight / "metrics.csv").read_text().splitlines()) == 3
    assert _without_seconds(found["levels"]) == _without_seconds(expected["levels"])
    assert len(found["levels"]) == 6


def _without_seconds(content: Any) -> str:
    if isinstance(content, dict):
        return json.dumps({k: _without_seconds(v) for k, v in content.items() if not k.endswith("_seconds")})
    return json.dumps([_without_seconds(v) for v in content]) if isinstance(content, list) else json.dumps(content)


def test_bf16_trains_every_level_as_float32_does(resolved: Resolved) -> None:
    settings = resolved(*USUAL, "trainer.max_steps=2", "data.batch_size=6")
    exact, coarse = _trained(settings), _trained(settings, precision="bf16-mixed")
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in [*coarse.phi, *coarse.theta])
    assert len(_of_levels(exact)) == 12
    assert _of_levels(coarse) != _of_levels(exact)
    assert _of_levels(coarse) == pytest.approx(_of_levels(exact), rel=0.03)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # Dynamo's, of its own reading
def test_a_compiled_codec_follows_its_levels(resolved: Resolved) -> None:
    """Without a graph break and without compiling again for another level."""
    settings = resolved(*USUAL, "data.batch_size=6")
    plain, compiled = build_networks(settings), build_networks(settings)
    graphs: list[int] = []

    def counts(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(len(inputs))
        return graph.forward

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    assert compiled.regularizer is not None
    precision.compile_networks(compiled.codec, compiled.regularizer.source, backend=counts)
    x = torch.rand(6, 3, 64, 64)
    after_first = 0
    for k in range(3):
        outputs: list[Tensor] = []
        for module in (plain, compiled):
            gains = variable_rate.gains_of(module.codec)
            assert gains is not None
            assert module.regularizer is not None
            assert module.levels is not None
            module.levels.begin(k, Rows(6, here=6), x.device)
            torch.manual_seed(k)
            x_hat = module.codec(x)["x_hat"]
            outputs += [x_hat, module.regularizer.source(x, x_hat)]
        torch.testing.assert_close(outputs[:2], outputs[2:])
        after_first = after_first or len(graphs)
    assert len(graphs) == after_first > 0
    assert not torch._dynamo.utils.counters["graph_break"]
    torch._dynamo.reset()


def test_a_plan_of_phases_is_made(resolved: Resolved, tmp_path: Path) -> None:
    """Batches of two sizes, each measured after the other has set its levels."""
    settings = resolved(*USUAL, "trainer.max_steps=100", "phases=[{start:50,crop:128,batch_size:1}]")
    found = cost_estimate.make(settings, tmp_path, build_networks(settings))
    assert found["crops"] == 50 * settings.data.batch_size + 50


def test_a_plan_is_made(resolved: Resolved, tmp_path: Path) -> None:
    """The cost of a run whose every image has a level; the gains are among the parameters."""
    found = [
        cost_estimate.make(settings, tmp_path, build_networks(settings))
        for settings in (resolved(*USUAL[:-1], *more, "trainer.max_steps=100") for more in ((), ("rate=fixed",)))
    ]
    variable, fixed = found
    assert variable["seconds"] > 0
    assert variable["pflops"] == pytest.approx(fixed["pflops"], rel=0.01)
    assert variable["parameters"] - fixed["parameters"] == 2 * 6 * resolved("rate=variable").backbone.arguments["M"]
