"""The points' networks: members side by side that share nothing, and a density that is one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from regicomp.objective.rate_distortion import RateDistortion
from regicomp.source.hyperprior import HyperpriorSource
from regicomp.theory.point_codec import PointCodec, PointSource

MEMBERS = 3


def _points(count: int = 50) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 2, MEMBERS, 1), generator=generator).float() / 255


def _source(context: bool = False) -> PointSource:
    torch.manual_seed(0)
    source = PointSource(16, MEMBERS, context)
    for parameter in source.heads.parameters():
        nn.init.normal_(parameter, std=0.3)
    return source


def test_members_share_nothing() -> None:
    torch.manual_seed(0)
    codec, source, x = PointCodec(16, 2, MEMBERS), _source(), _points()
    out = codec(x)
    likelihoods = out["likelihoods"]["y"].reshape(MEMBERS, 2, -1)
    of_first = (
        out["x_hat"][:, :, 0].sum() + torch.log(likelihoods[0]).sum() + source.bits(x, out["x_hat"])[:, :, 0].sum()
    )
    of_first.backward()
    touched = 0
    for name, parameter in [*codec.named_parameters(), *source.named_parameters()]:
        if parameter.grad is None or name.endswith("quantiles"):
            continue
        by_member = parameter.grad.reshape(MEMBERS, -1)
        assert float(by_member[1:].abs().max()) == 0, name
        touched += int(by_member[0].abs().max() > 0)
    assert touched > 20


def test_coding_agrees_with_the_evaluating_forward_pass() -> None:
    torch.manual_seed(0)
    codec, x = PointCodec(16, 2, MEMBERS).eval(), _points()
    codec.update(force=True, update_quantiles=True)
    with torch.no_grad():
        out = codec(x)
    coded = codec.code(x)
    assert torch.equal(coded.x_hat, out["x_hat"])
    bits = -torch.log2(out["likelihoods"]["y"].double()).reshape(MEMBERS, 2, -1).sum(1).T
    assert torch.allclose(coded.bits, bits)
    for member in range(MEMBERS):  # equal codes make equal pictures
        codes, u = torch.unique(coded.symbols[:, member], dim=0, return_inverse=True)
        for code in range(len(codes)):
            pictures = coded.x_hat[u == code, :, member, 0]
            assert float((pictures - pictures[:1]).abs().max()) < 1e-6


@pytest.mark.parametrize("context", [False, True])
def test_the_density_sums_to_one(context: bool) -> None:
    source = _source(context)
    levels = torch.arange(256.0)
    x = torch.cartesian_prod(levels, levels)[:, :, None, None].expand(-1, -1, MEMBERS, 1) / 255
    x_hat = torch.tensor([0.2, 0.7]).reshape(1, 2, 1, 1).expand_as(x)
    with torch.no_grad():
        masses = torch.exp2(-source.bits(x, x_hat).double().sum((1, 3)))
    assert masses.sum(0).tolist() == pytest.approx([1.0] * MEMBERS, abs=1e-5)


def test_context_is_causal_and_used() -> None:
    source, x = _source(context=True), _points(2)
    x_hat = torch.full_like(x, 0.5)
    moved = x.clone()
    moved[:, 0] = 1 - moved[:, 0]
    with torch.no_grad():
        one, two = (source.parameters_of(255 * image, x_hat) for image in (x, moved))
        _, other = (source.parameters_of(255 * torch.stack([x[:, 0], s], 1), x_hat) for s in (x[:, 1], 1 - x[:, 1]))
    assert torch.equal(one.mean[:, 0], two.mean[:, 0])
    assert not torch.equal(one.mean[:, 1], two.mean[:, 1])
    assert torch.equal(one.mean, other.mean)


def test_the_images_source_model_and_objective_are_what_they_were_before_points() -> None:
    """Values from the commit before `SourceModel` took `channels`."""
    torch.manual_seed(0)
    source = HyperpriorSource(width=16)
    nn.init.normal_(source.head.weight, std=0.1)
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 256, (2, 3, 16, 16), generator=generator).float() / 255
    x_hat = x + 0.1 * torch.randn(x.shape, generator=generator)
    with torch.no_grad():
        assert float(source(x, x_hat)) == pytest.approx(20.550743103027344, rel=1e-6)
    terms = RateDistortion(0.01).terms(x, x_hat, [torch.full((1, 8), 0.5)])
    assert [float(term) for term in terms] == pytest.approx([6.8016653, 0.015625, 678.60406, 678.60406], rel=1e-6)


@pytest.mark.parametrize("wrong", [{"N": 0}, {"M": 0}, {"members": 0}, {"gain": 0.0}])
def test_wrong_arguments_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}`"):
        PointCodec(**wrong)  # pyright: ignore[reportArgumentType]
