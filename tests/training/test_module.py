"""The alternating update, judged by the parameters it leaves behind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import quiet
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from regicomp.config.settings import Settings
from regicomp.data.datamodule import CropData
from regicomp.training.build import build_networks
from regicomp.training.module import Optimization, RegularizedCodec, noise_seed
from regicomp.training.profiling import flops_a_crop

Resolved = Callable[..., Settings]


def fit(cfg: Settings, module: RegularizedCodec | None = None, precision: Any = "32-true") -> RegularizedCodec:
    """Train a module on a configuration's own crops."""
    module = module or build_networks(cfg)
    trainer = quiet.fit(module, cfg, precision=precision)
    assert trainer.global_step == cfg.trainer.max_steps
    return module


def _copies(parameters: list[nn.Parameter]) -> list[torch.Tensor]:
    return [p.detach().clone() for p in parameters]


def _distance(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


SETTINGS = ("trainer.max_steps=20", "reg.warmup_steps=3", "reg.ramp_steps=4", "optimizer.lr=1e-3")


def test_one_pass_equals_two_pass(resolved: Resolved) -> None:
    one = fit(resolved(*SETTINGS, "reg.form=one_pass"))
    two = fit(resolved(*SETTINGS, "reg.form=two_pass"))
    plain = fit(resolved(*SETTINGS, "reg.alpha=0"))
    assert _distance(_copies(one.phi), _copies(two.phi)) < 1e-6
    assert _distance(_copies(one.theta), _copies(two.theta)) < 1e-6
    assert _distance(_copies(one.phi), _copies(plain.phi)) > 1e-5  # the regularizer did act


def test_one_pass_equals_two_pass_where_the_bound_acts(resolved: Resolved) -> None:
    bound = (*SETTINGS, "reg.alpha=1", "reg.max_pressure=0.02")
    one = fit(resolved(*bound, "reg.form=one_pass"))
    two = fit(resolved(*bound, "reg.form=two_pass"))
    assert one.regularizer is not None
    assert one.regularizer.read_pressure()[1] > 0
    assert _distance(_copies(one.phi), _copies(two.phi)) < 1e-6
    assert _distance(_copies(one.theta), _copies(two.theta)) < 1e-6


@pytest.mark.parametrize("name", ["soap", "muon"])
def test_one_pass_equals_two_pass_under_every_optimizer(resolved: Resolved, name: str) -> None:
    """To rounding, which SOAP enlarges wherever a gradient is zero but for it, so for a few updates."""
    settings = ("trainer.max_steps=4", "reg.warmup_steps=1", "optimizer.warmup=0", "optimizer.lr=1e-3")
    adam = fit(resolved(*settings))
    settings += (f"optimizer={name}",)
    one = fit(resolved(*settings, "reg.form=one_pass"))
    two = fit(resolved(*settings, "reg.form=two_pass"))
    assert _distance(_copies(one.phi), _copies(two.phi)) < 1e-5
    assert _distance(_copies(one.theta), _copies(two.theta)) < 1e-5
    assert _distance(_copies(one.phi), _copies(adam.phi)) > 1e-4


@pytest.mark.parametrize(
    "unusual", ["reg.project=true", "reg.per_image=true", "reg.feed=rounded", "quantization=mixed"]
)
def test_unusual_shapes_act_and_have_both_forms(resolved: Resolved, unusual: str) -> None:
    short = ("trainer.max_steps=6", "reg.warmup_steps=1", "optimizer.lr=1e-3")
    one = fit(resolved(*short, unusual, "reg.form=one_pass"))
    two = fit(resolved(*short, unusual, "reg.form=two_pass"))
    usual = fit(resolved(*short))
    assert _distance(_copies(one.phi), _copies(two.phi)) < 1e-6
    assert _distance(_copies(one.theta), _copies(two.theta)) < 1e-6
    # The images of this batch are alike, so pressing them alike does little; test_regularizer.py has others.
    assert _distance(_copies(one.phi), _copies(usual.phi)) > (0 if unusual == "reg.per_image=true" else 1e-5)


@pytest.mark.parametrize("unusual", ["reg.max_pressure=0.02", "reg.project=true", "reg.per_image=true"])
def test_a_batch_computed_in_parts_is_regularized_as_a_whole(resolved: Resolved, unusual: str) -> None:
    """ρ, its bound and the count of bounded updates are the whole batch's, however many parts it is computed in."""
    common = ("trainer.max_steps=3", "reg.warmup_steps=1", "reg.ramp_steps=0", "reg.alpha=1", "data.batch_size=4")
    found = [fit(resolved(*common, unusual, f"trainer.accumulate_grad_batches={parts}")) for parts in (1, 2, 4)]
    whole = found[0]
    assert whole.regularizer is not None
    rho, capped, cosine = whole.regularizer.read_pressure()
    assert rho > 0
    assert capped == (2 if unusual == "reg.max_pressure=0.02" else 0)
    for parts in found[1:]:
        assert parts.regularizer is not None
        assert parts.regularizer.read_pressure() == (
            pytest.approx(rho, rel=1e-4),
            capped,
            pytest.approx(cosine, abs=1e-5),
        )
        assert _distance(_copies(parts.phi), _copies(whole.phi)) < 2e-6
        assert _distance(_copies(parts.theta), _copies(whole.theta)) < 2e-6


def test_released_updates_are_plain_ones(resolved: Resolved) -> None:
    at_once = ("trainer.max_steps=6", "reg.warmup_steps=0", "reg.ramp_steps=0", "reg.alpha=1")
    plain = _copies(fit(resolved("trainer.max_steps=6", "reg.alpha=0")).phi)
    cfg = resolved(*at_once)
    released = replace(cfg, regularizer=replace(cfg.regularizer, release_at=0))
    assert _distance(_copies(fit(released).phi), plain) == 0
    assert _distance(_copies(fit(resolved(*at_once, "reg.release_steps=5")).phi), plain) > 0


@pytest.mark.parametrize("update", ["reg.form=one_pass", "reg.form=two_pass", "reg.order=source_first"])
def test_each_update_touches_only_its_own_parameters(resolved: Resolved, update: str) -> None:
    """With one network's learning rate so small that it cannot move, only the other moves."""
    cfg = resolved("trainer.max_steps=3", "reg.warmup_steps=0", update)
    for frozen in ("phi", "theta"):
        module = build_networks(cfg)
        rates = {"lr": 0.0} if frozen == "phi" else {"source_lr": 0.0}
        module.optimization = module.optimization._replace(**rates)
        before = {"phi": _copies(module.phi), "theta": _copies(module.theta)}
        fit(cfg, module)
        moved = {"phi": _copies(module.phi), "theta": _copies(module.theta)}
        other = "theta" if frozen == "phi" else "phi"
        assert _distance(before[frozen], moved[frozen]) == 0
        assert _distance(before[other], moved[other]) > 0


def test_the_codec_s_gradient_flows_through_the_source_model(resolved: Resolved) -> None:
    """In the two-pass form φ's loss reaches x̂ through q_θ, yet leaves no gradient in θ."""
    module = build_networks(resolved("reg.warmup_steps=0"))
    assert module.regularizer is not None
    nn.init.normal_(module.regularizer.source.head.weight, std=0.1)
    torch.manual_seed(0)
    x = torch.randint(0, 256, (1, 3, 64, 64)).float() / 255
    x_hat = module.codec(x)["x_hat"]
    module.regularizer.literal(x, x_hat, step=10_000).backward(inputs=module.phi)
    assert any(p.grad is not None and bool(p.grad.abs().max() > 0) for p in module.phi)
    assert all(p.grad is None for p in module.theta)


def test_source_first_takes_its_steps_before_the_codec_s(resolved: Resolved) -> None:
    cfg = resolved("trainer.max_steps=2", "reg.order=source_first", "reg.source_steps=3", "reg.warmup_steps=0")
    module = build_networks(cfg)
    taken: list[str] = []

    def watch(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        taken.append("phi" if optimizer.param_groups[0]["params"][0] is module.phi[0] else "theta")

    hook = register_optimizer_step_post_hook(watch)
    try:
        fit(cfg, module)
    finally:
        hook.remove()
    assert taken == ["theta", "theta", "theta", "phi"] * 2


def test_alpha_zero_builds_no_source_model_and_is_the_plain_codec_bit_for_bit(resolved: Resolved) -> None:
    """Against a loop written out: same weights, crops, noise, Adam and clipping, and nothing else."""
    cfg = resolved("trainer.max_steps=6", "reg.alpha=0", "optimizer.schedule=constant", "optimizer.lr=1e-3")
    module = build_networks(cfg)
    assert module.regularizer is None
    assert module.theta == []
    codec = copy.deepcopy(module.codec)
    fit(cfg, module)
    phi = [p for name, p in codec.named_parameters() if not name.endswith("quantiles")]
    optimizer = torch.optim.Adam(phi, 1e-3, fused=True)
    data = CropData(cfg.data, 6, cfg.seed)
    lmbda = 0.0067
    for step, batch in enumerate(data.train_dataloader()):
        torch.manual_seed(noise_seed(cfg.seed, step, 0))
        x = (batch.float() / 255).contiguous(memory_format=module.memory_format)
        out = codec(x)
        bits = torch.stack([-torch.log(p).sum() for p in out["likelihoods"].values()]).sum()
        rate = bits / (0.6931471805599453 * 2 * 64 * 64)
        (rate + lmbda * torch.mean((255 * (out["x_hat"] - x)) ** 2)).backward()
        nn.utils.clip_grad_norm_(phi, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    for found, expected in zip(module.phi, phi, strict=True):
        assert torch.equal(found, expected)


def test_the_probe_leaves_the_codec_alone(resolved: Resolved) -> None:
    steps = ("trainer.max_steps=6", "reg.alpha=0")
    plain, probed = fit(resolved(*steps)), fit(resolved(*steps, "reg.probe=true"))
    assert probed.regularizer is not None
    # The likelihoods are the same numbers; only the clipped sum of gradients is taken in another order.
    assert _distance(_copies(plain.phi), _copies(probed.phi)) < 1e-7


def test_a_run_and_its_anchor_see_the_same_noise_and_start_from_the_same_codec(resolved: Resolved) -> None:
    """With all learning rates 0 both stay at their start; their likelihoods must then be equal at every step."""
    seen: dict[float, list[torch.Tensor]] = {}
    for alpha in (0.0, 0.1):
        cfg = resolved("trainer.max_steps=3", f"reg.alpha={alpha}", "reg.warmup_steps=0", "seed=5")
        module = build_networks(cfg)
        module.optimization = module.optimization._replace(lr=0.0, source_lr=0.0)
        terms = seen.setdefault(alpha, [])
        module.codec.register_forward_hook(
            lambda _module, inputs, out, terms=terms: terms.extend([inputs[0], out["likelihoods"]["y"], out["x_hat"]])
        )
        fit(cfg, module)
    assert len(seen[0.0]) == 9
    assert all(torch.equal(a, b) for a, b in zip(seen[0.0], seen[0.1], strict=True))
    assert not torch.equal(seen[0.1][0], seen[0.1][3])


def test_bf16_keeps_likelihoods_and_losses_in_float32(resolved: Resolved) -> None:
    cfg = resolved("trainer.max_steps=3", "reg.warmup_steps=0")
    module = build_networks(cfg)
    outs: list[dict[str, Any]] = []
    module.codec.register_forward_hook(lambda _module, _inputs, out: outs.append(out))
    convolved: list[torch.dtype] = []
    module.codec.g_a[0].register_forward_hook(lambda _module, _inputs, out: convolved.append(out.dtype))
    fit(cfg, module, precision="bf16-mixed")
    assert convolved[0] == torch.bfloat16
    for out in outs:
        assert out["x_hat"].dtype == torch.float32
        for likelihood in out["likelihoods"].values():
            assert likelihood.dtype == torch.float32
            assert bool((likelihood > 0).all())
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_training_lowers_rate_distortion_and_source_entropy(resolved: Resolved) -> None:
    cfg = resolved("trainer.max_steps=60", "optimizer.lr=1e-3", "reg.warmup_steps=10")
    module = build_networks(cfg)
    rows: list[tuple[float, float]] = []
    log = RegularizedCodec._log

    def watched(self: RegularizedCodec, step: int, terms: Any, source_bpp: torch.Tensor) -> None:
        rows.append((float(terms.loss.detach()), float(source_bpp.detach())))
        log(self, step, terms, source_bpp)

    module._log = watched.__get__(module)
    fit(cfg, module)
    assert sum(r[0] for r in rows[-10:]) < 0.5 * sum(r[0] for r in rows[:10])
    assert sum(r[1] for r in rows[-10:]) < sum(r[1] for r in rows[:10])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_learning_rate_schedule(schedule: str) -> None:
    optimization = Optimization(steps=100, schedule=schedule, decay=0.3)
    factors = [optimization.factor(step) for step in range(100)]
    assert all(0 < f <= 1 for f in factors)
    assert factors[:70] == [1.0] * 70
    assert factors == sorted(factors, reverse=True)
    assert (factors[-1] < 0.05) == (schedule != "constant")
    rising = optimization._replace(warmup=10)
    assert [rising.factor(step) for step in range(12)] == pytest.approx([*(k / 10 for k in range(1, 11)), 1, 1])
    assert [rising.factor(step) for step in range(10, 100)] == factors[10:]


def test_published_size_and_the_source_model_s_share(resolved: Resolved) -> None:
    """5,075,843 parameters at quality 1 to 5; q_θ adds at most 30 % to the codec's training arithmetic."""
    module = build_networks(resolved(tiny=False))
    assert sum(p.numel() for p in module.codec.parameters()) == 5_075_843
    codec, source = flops_a_crop(module, 64)
    assert 0 < source <= 0.3 * codec


def test_learning_rate_zero_trains_q_theta_beside_a_fixed_codec(resolved: Resolved) -> None:
    cfg = resolved("optimizer.source_lr=1e-3", "reg.alpha=0", "reg.probe=true", "trainer.max_steps=5")
    cfg = replace(cfg, optimizer=replace(cfg.optimizer, lr=0))  # which needs init_from in a run of its own
    module, before = build_networks(cfg), build_networks(cfg)
    fit(cfg, module)
    assert _distance(_copies(module.phi), _copies(before.phi)) == 0
    assert _distance(_copies(module.theta), _copies(before.theta)) > 0
