"""bf16 and channels_last: where they are used, and layers that compute the same in another way while training."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from compressai.layers import GDN
from torch import Tensor, nn

from regicomp.backbone import precision
from regicomp.backbone.fast_layers import QuickGDN, QuickPointwise, _Normalized, without_strided_pointwise


@pytest.mark.parametrize(
    ("cpuinfo", "flag"),
    [
        ("flags\t\t: fpu avx512_bf16 avx512f\n", "avx512_bf16"),
        ("flags\t\t: fpu avx512_bf16 amx_bf16\n", "amx_bf16"),
        ("processor: 0\nFeatures\t: fp asimd bf16 i8mm\n", "bf16"),
        ("model name\t: bf16\nflags\t\t: avx2 avx512f avx512_fp16\n", None),
        ("", None),
    ],
)
def test_bf16_is_fast_by_any_of_three_flags(cpuinfo: str, flag: str | None) -> None:
    assert precision.bf16_flag(cpuinfo) == flag


@pytest.mark.parametrize("fast", [False, True])
def test_auto_follows_the_hardware(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device_type: fast)
    assert precision.resolve("auto", "auto", "cpu") == ("bf16-mixed" if fast else "32-true", True, False)
    assert precision.resolve("float32", False, "cpu") == ("32-true", False, False)
    assert precision.resolve("bf16", True, "cpu") == ("bf16-mixed", True, False)


@pytest.mark.parametrize(("stride", "size"), [(2, (8, 8)), (2, (7, 9)), ((3, 2), (8, 8))])
def test_a_strided_pointwise_convolution_and_its_replacement_are_one(
    stride: int | tuple[int, int], size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 5, 1, stride)), nn.Conv2d(5, 5, 3, 2), nn.Conv2d(5, 2, 1))
    names = list(network.state_dict())
    x = torch.randn(2, 3, *size, requires_grad=True)

    def gradients() -> list[Tensor]:
        out = network[0](x)
        return [out, *torch.autograd.grad(out.square().sum(), [x, *network[0].parameters()])]

    expected = gradients()
    without_strided_pointwise(network)
    assert isinstance(network[0][0], QuickPointwise)  # pyright: ignore[reportIndexIssue]
    assert [type(m) for m in network[1:]] == [nn.Conv2d, nn.Conv2d]
    assert list(network.state_dict()) == names
    for a, b in zip(expected, gradients(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


_UNDER_A_CHECKED_HEAP = """
import torch
from torch import nn
from regicomp.backbone.fast_layers import without_strided_pointwise
network = nn.Sequential(nn.Conv2d(3, 64, 1, 2))
without_strided_pointwise(network)
network.to(memory_format=torch.channels_last)
for _ in range(3):
    network(torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)).sum().backward()
"""


def test_in_channels_last_nothing_is_written_out_of_bounds() -> None:
    """Without the replacement this process dies of it (torch 2.15, oneDNN's jit_1x1:avx2 for the weight's gradient)."""
    checked = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.check=3", "MALLOC_CHECK_": "3"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _UNDER_A_CHECKED_HEAP], env=checked, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_of_normalization(inverse: bool) -> None:
    torch.manual_seed(0)
    x, gamma, beta = torch.randn(7, 4).double(), torch.rand(4, 4).double(), 0.5 + torch.rand(4).double()
    given = [t.requires_grad_() for t in (x, gamma, beta)]
    assert torch.autograd.gradcheck(lambda *a: _Normalized.apply(*a, inverse), given)


@pytest.mark.parametrize("inverse", [False, True])
def test_quick_gdn_trains_as_gdn(inverse: bool) -> None:
    torch.manual_seed(0)
    quick = QuickGDN(6, inverse=inverse)
    nn.init.uniform_(quick.gamma, 0.01, 0.3)
    x = torch.randn(2, 6, 5, 7).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(2, 6, 5, 7)

    def gradients(out: Tensor) -> list[Tensor]:
        return [out, *torch.autograd.grad((out * weight).sum(), [x, quick.gamma, quick.beta])]

    assert quick(x).is_contiguous(memory_format=torch.channels_last)
    for a, b in zip(gradients(GDN.forward(quick, x)), gradients(quick(x)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
