"""Precisions on CUDA: float32 is exact, TF32 is asked for by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regicomp.backbone import precision


def _flags() -> tuple[Any, Any]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.fixture
def as_torch_starts() -> Iterator[None]:
    """PyTorch rounds the factors of CUDA's convolutions to TF32 unless told not to."""
    before = _flags()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.usefixtures("as_torch_starts")
@pytest.mark.parametrize(
    ("name", "lightning", "tf32"),
    [("float32", "32-true", False), ("tf32", "32-true", True), ("bf16", "bf16-mixed", False)],
)
def test_float32_is_exact_and_tf32_is_asked_for(name: str, lightning: str, tf32: bool) -> None:
    found = precision.resolve(name, "auto", "cuda")
    assert (found.lightning, found.tf32) == (lightning, tf32)
    precision.set_backends(found)
    assert _flags() == (tf32, tf32)


class _Codec(nn.Module):
    """Notes under which settings its transforms run."""

    def __init__(self) -> None:
        super().__init__()
        self.g_a, self.g_s = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.seen: list[tuple[bool, bool]] = []
        self.g_a.register_forward_hook(lambda *_: self.seen.append(_flags()))

    def forward(self, x: Tensor) -> Tensor:
        return self.g_s(self.g_a(x))


@pytest.mark.usefixtures("as_torch_starts")
@pytest.mark.parametrize("name", ["float32", "bf16"])
def test_coding_rounds_no_factor_to_tf32(name: str) -> None:
    codec = _Codec()
    with precision.transforms_in(codec, name):
        codec(torch.zeros(1, 3, 4, 4))
    assert codec.seen == [(False, False)]
    assert _flags() == (True, True)
