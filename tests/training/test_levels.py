"""Training at variable rate: levels by place, one objective and pressure by image, and what comes of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import quiet
import torch
from conftest import picture
from torch import Tensor, nn

from regicomp.backbone import variable_rate
from regicomp.config.settings import Settings
from regicomp.data import dead_leaves
from regicomp.image_codec import model_file
from regicomp.image_codec.codec import Codec
from regicomp.objective.by_image import ByImage
from regicomp.objective.rate_distortion import RateDistortion
from regicomp.objective.regularizer import AlphaSchedule, Regularizer, Shape
from regicomp.source import told_level
from regicomp.source.hyperprior import HyperpriorSource
from regicomp.training.build import build_networks
from regicomp.training.levels import of_batch
from regicomp.training.quantization import Rows

Resolved = Callable[..., Settings]
LAMBDAS = [0.002, 0.01, 0.05]
PICTURE = picture(96, 80)
VARIABLE = ("rate=variable", "data.batch_size=6", "data.images=4", "optimizer.lr=1e-3")


def test_levels_are_a_pure_function_of_seed_step_and_place() -> None:
    for seed, step in itertools.product((0, 1), (0, 7)):
        levels = of_batch(seed, step, 8, 6)
        assert torch.equal(levels, of_batch(seed, step, 8, 6))
        counts = levels.long().bincount(minlength=7)[1:]
        assert counts.min() >= 1
        assert counts.max() <= 2
    assert not torch.equal(of_batch(0, 0, 8, 6), of_batch(0, 1, 8, 6))
    assert not torch.equal(of_batch(0, 0, 8, 6), of_batch(1, 0, 8, 6))
    means = torch.stack([of_batch(0, step, 2, 6) for step in range(600)]).mean(0)
    assert (means - 3.5).abs().max() < 0.3  # no place is given low levels rather than high ones


def _batch() -> tuple[Tensor, Tensor, list[Tensor]]:
    torch.manual_seed(0)
    x = torch.randint(0, 256, (3, 3, 32, 32)).float() / 255
    sizes = torch.tensor([0.02, 0.05, 0.1])[:, None, None, None]
    return x, (x + sizes * torch.randn_like(x)).clamp(0, 1), [torch.rand(3, 5, 2, 2), torch.rand(3, 2, 1, 1)]


def test_the_objective_is_the_mean_of_the_images_own() -> None:
    x, x_hat, likelihoods = _batch()
    objective = ByImage(LAMBDAS)
    objective.of_images = torch.tensor(LAMBDAS)
    terms = objective.terms(x, x_hat, likelihoods)
    alone = [
        RateDistortion(lmbda).terms(x[k : k + 1], x_hat[k : k + 1], [p[k : k + 1] for p in likelihoods])
        for k, lmbda in enumerate(LAMBDAS)
    ]
    for found, parts in zip(terms, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(parts).mean())
    assert objective.latest is not None
    torch.testing.assert_close(objective.latest.rate_bpp, torch.stack([t.rate_bpp for t in alone]))
    torch.testing.assert_close(objective.latest.mse_255, torch.stack([t.mse_255 for t in alone]))


def _pressures(alpha: float, most: float, constant: bool) -> Tensor:
    """ρ of each image's gradient from the regularizer."""
    x, x_hat, _ = _batch()
    objective = ByImage(LAMBDAS)
    objective.of_images = torch.tensor(LAMBDAS)
    torch.manual_seed(1)
    source = HyperpriorSource(width=16)
    nn.init.normal_(source.head.weight, std=0.1)
    shape = Shape(apart=True, constant=constant)
    regularizer = Regularizer(source, objective, AlphaSchedule(alpha), most, shape)
    leaf = x_hat.clone().requires_grad_()
    regularizer(x, leaf, 0).backward()
    again = x_hat.clone().requires_grad_()
    (literal,) = torch.autograd.grad(regularizer.literal(x, again, 0), again)
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, literal)
    # The mean over images of R_b + λ_b D_b has 1/3 of each image's gradient.
    alone = [
        RateDistortion(v).terms(x[k : k + 1], again[k : k + 1], [torch.ones(1)]).loss for k, v in enumerate(LAMBDAS)
    ]
    (of_d,) = torch.autograd.grad(torch.stack(alone).mean(), again)
    return leaf.grad.flatten(1).norm(dim=1) / of_d.flatten(1).norm(dim=1)


def test_the_pressure_is_bounded_in_each_image() -> None:
    free = _pressures(0.5, 1e9, False)
    assert free.max() > 3 * free.min()
    most = float(free.sort().values[1])
    torch.testing.assert_close(_pressures(0.5, most, False), free.clamp_max(most))


@pytest.mark.parametrize("pressure", [0.05, 0.5])
def test_a_constant_pressure_is_each_images_pressure(pressure: float) -> None:
    torch.testing.assert_close(_pressures(pressure, 1.0, True), torch.full((3,), pressure))
    torch.testing.assert_close(_pressures(pressure, 0.02, True), torch.full((3,), 0.02))


def test_each_level_has_its_own_alpha(resolved: Resolved) -> None:
    """The codec's gradient at x̂ is that of R_b + λ_b D_b − α_b H_b: none of H where its level's α is 0."""
    listed = [0.3, 0, 0.02, 0.1, 0, 0.2]
    module = build_networks(resolved(*VARIABLE, f"reg.alpha={listed}", "reg.warmup_steps=0", "reg.max_pressure=1e9"))
    levels, regularizer, rows = module.levels, module.regularizer, Rows(8, 1, 2, 4)
    assert levels is not None
    assert regularizer is not None
    levels.begin(5, rows, torch.device("cpu"))
    own = of_batch(0, 5, 8, 6)[1::2].long() - 1
    torch.manual_seed(0)
    x = torch.rand(4, 3, 64, 64)
    x_hat = (x + 0.1 * torch.randn_like(x)).requires_grad_()
    (of_h,) = torch.autograd.grad(regularizer.source(x, x_hat), x_hat)
    for term in (regularizer(x, x_hat, 9), regularizer.literal(x, x_hat, 9)):
        (found,) = torch.autograd.grad(term, x_hat)
        torch.testing.assert_close(found, -torch.tensor(listed)[own][:, None, None, None] * of_h)


def test_alike_alphas_are_one_alpha(resolved: Resolved) -> None:
    short = (*VARIABLE, "trainer.max_steps=3", "reg.warmup_steps=1", "reg.ramp_steps=0")
    one, listed = (resolved(*short, f"reg.alpha={alpha}") for alpha in ("0.5", "[0.5,0.5,0.5,0.5,0.5,0.5]"))
    modules = [build_networks(settings) for settings in (one, listed)]
    for module in modules:
        quiet.fit(module, one)
    assert all(torch.equal(a, b) for a, b in zip(modules[0].phi, modules[1].phi, strict=True))
    assert listed.variant == f"{one.variant}, alpha=[0.5, 0.5, 0.5, 0.5, 0.5, 0.5]"
    assert listed.regularizer.alpha == 0.5


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["reg.alpha=[0.1,0.2]"], r"`reg.alpha` \(=\[0.1, 0.2\]\) must be a number, or a list of 6, one a level"),
        (["reg.alpha=[0,0,0,0,0,-1]"], r"`reg.alpha` .* must be a finite number of at least 0, or with rate=variable"),
        (["reg.alpha=[1,1,1,1,1,1]", "reg.pressure=0.1"], r"`reg.pressure` \(=0.1\) must be null where `reg.alpha`"),
        (
            ["reg.alpha=[1,1,1,1,1,1]", "phases=[{start: 5, alpha: 0.1}]"],
            r"`reg.alpha` .* must be a number where `phases` changes alpha",
        ),
    ],
)
def test_lists_that_fit_no_levels_are_refused(resolved: Resolved, overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolved(*VARIABLE, *overrides)


@pytest.mark.parametrize("optimizer", ["adam", "soap", "muon"])
def test_gains_move_by_a_part_of_the_learning_rate(resolved: Resolved, optimizer: str) -> None:
    """Adam's first step moves every parameter that has a gradient by the learning rate."""

    def moved(part: float) -> Tensor:
        fixed = (f"optimizer={optimizer}", "optimizer.lr=1e-3", "optimizer.schedule=constant", "optimizer.warmup=0")
        settings = resolved(*VARIABLE, "reg.alpha=0", "trainer.max_steps=1", *fixed, f"rate.gains_lr={part}")
        module = build_networks(settings)
        gains = variable_rate.gains_of(module.codec)
        assert gains is not None
        before = gains.log_gain.detach().clone()
        quiet.fit(module, settings)
        return (gains.log_gain.detach() - before).abs()

    whole, tenth = moved(1), moved(0.1)
    assert float(whole.max()) == pytest.approx(1e-3, rel=1e-2)
    torch.testing.assert_close(tenth, whole / 10, rtol=1e-2, atol=1e-7)


def test_a_fixed_rate_codec_starts_a_variable_one_with_gains_of_one(resolved: Resolved, tmp_path: Path) -> None:
    settings = resolved("reg.alpha=0", "seed=3")
    fixed = build_networks(settings).codec
    model_file.save_codec(tmp_path / "fixed.safetensors", fixed, settings.backbone, {})
    started = build_networks(resolved("rate=variable", f"init_from={tmp_path / 'fixed.safetensors'}")).codec
    gains = variable_rate.gains_of(started)
    assert gains is not None
    x = torch.rand(1, 3, 64, 64)
    expected = fixed.eval()(x)["x_hat"]
    for quality in (1, 3.7, 6):
        with variable_rate.at_quality(started, quality):
            torch.testing.assert_close(started.eval()(x)["x_hat"], expected)
    with torch.no_grad():
        gains.log_gain.add_(torch.randn_like(gains.log_gain))
    with pytest.raises(ValueError, match="1 to 6"):
        started.eval()(x) if variable_rate.at_quality(started, 7).__enter__() else None
    path = tmp_path / "variable.safetensors"
    model_file.save_codec(path, started, settings.backbone, {})
    loaded = model_file.load_codec(path).network
    again = build_networks(resolved("rate=variable", f"init_from={path}")).codec
    for network in (loaded, again):
        kept = variable_rate.gains_of(network)
        assert kept is not None
        assert torch.equal(kept.log_gain, gains.log_gain)
        assert kept.lambdas.tolist() == [0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483]


@pytest.mark.parametrize("backbone", ["hyperprior", "autoregressive", "attention", "elic", "mlicpp"])
def test_training_lowers_the_loss_of_every_level(resolved: Resolved, backbone: str, tmp_path: Path) -> None:
    """And what is exported decodes to the encoder's reconstruction, at levels and between them."""
    settings = resolved(*VARIABLE, f"backbone={backbone}", "reg.alpha=0", "trainer.max_steps=12")
    module = build_networks(settings)
    names = {name for name, _ in module.codec.named_parameters() if not name.startswith("gains.")}
    fixed = build_networks(resolved(f"backbone={backbone}", "reg.alpha=0")).codec
    assert names == {name for name, _ in fixed.named_parameters()}
    images = dead_leaves.make(2, settings.seed)  # of those it trains on
    x = torch.stack([torch.from_numpy(image[:64, :64].transpose(2, 0, 1) / 255).float() for image in images])

    def losses() -> list[float]:
        found: list[float] = []
        module.eval()
        for quality, lmbda in enumerate(settings.rate.lambdas or [], 1):
            with variable_rate.at_quality(module.codec, quality), torch.no_grad():
                out = module.codec(x)
            terms = RateDistortion(lmbda).terms(x, out["x_hat"], out["likelihoods"].values())
            found.append(float(terms.loss))
        module.train()
        return found

    before = losses()
    quiet.fit(module, settings)
    after = losses()
    assert all(b < a for a, b in zip(before, after, strict=True)), (before, after)
    model_file.save_codec(tmp_path / "codec.safetensors", module.codec, settings.backbone, {})
    codec = Codec(model_file.load_codec(tmp_path / "codec.safetensors"))
    for quality in (1, 2.5, 6):
        decoded, expected = codec.decode(codec.encode(PICTURE, quality)), codec.reconstruct(PICTURE, quality)[0]
        assert torch.equal(decoded, expected)


def test_both_forms_of_the_update_agree(resolved: Resolved) -> None:
    """Levels follow from the step, and q_θ is told them in both forms of the update."""
    short = (*VARIABLE, "trainer.max_steps=4", "reg.warmup_steps=1", "reg.ramp_steps=0", "reg.alpha=0.1")
    one, two = (build_networks(resolved(*short, f"reg.form={form}")) for form in ("one_pass", "two_pass"))
    quiet.fit(one, resolved(*short))
    quiet.fit(two, resolved(*short, "reg.form=two_pass"))
    for a, b in zip(one.phi, two.phi, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert one.regularizer is not None
    told = told_level.told_of(one.regularizer.source)
    assert told is not None
    assert float(told.bias.detach().abs().max()) > 0  # it has learned
