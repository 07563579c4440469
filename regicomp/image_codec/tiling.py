"""How a codec's transforms g_a and g_s are computed: whole or in tiles, in float32 or in bf16.

The entropy model is never touched, so that with either choice encoder and decoder stay in step.

Tiles overlap by the transform's receptive field, so that there are no seams: a tiled transform differs from a whole
one by the order of its sums only. The receptive field is measured on the transform itself, once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from regicomp.backbone.precision import transforms_in
from regicomp.image_codec.container import TILE_UNIT

_REACHES = (4, 8, 16, 32)  # cells that are tried; a transform with a larger receptive field is not tiled


class _Scale(NamedTuple):
    """Samples a cell, the unit that one position of y stands for."""

    before: int
    after: int


def _parts(network: nn.Module, setting: str) -> tuple[nn.Module, nn.Module]:
    g_a, g_s = getattr(network, "g_a", None), getattr(network, "g_s", None)
    if not isinstance(g_a, nn.Module) or not isinstance(g_s, nn.Module):
        raise ValueError(
            f"`{setting}` needs a codec with transforms `g_a` and `g_s`, which {type(network).__name__} lacks"
        )
    return g_a, g_s


def _one(transform: nn.Module) -> nn.Parameter:
    return next(transform.parameters())


def cell(network: nn.Module, stride: int) -> int:
    """Pixels that one position of y stands for, 16 in all backbones here."""
    g_a, _ = _parts(network, "tile")
    like = _one(g_a)
    with torch.no_grad():
        y = g_a(torch.zeros(1, 3, stride, stride, device=like.device))
    return stride // y.shape[-1]


def reach(transform: Callable[[Tensor], Tensor], channels: int, scale: _Scale, device: torch.device) -> int:
    """How many cells around a cell a transform's output depends on.

    Raises:
        ValueError: more than can be tiled.
    """
    for most in _REACHES:
        side = (2 * most + 1) * scale.before
        here = slice(most * scale.after, (most + 1) * scale.after)
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(0))
            x = x.to(device).requires_grad_()
            seen = torch.autograd.grad(transform(x)[..., here, here].abs().sum(), x)[0].abs().sum((0, 1))
        cells = torch.cat([seen.sum(axis).nonzero().flatten() // scale.before for axis in (0, 1)])
        farthest = int((cells - most).abs().max()) if cells.numel() else 0
        if farthest < most:
            return farthest
    raise ValueError(f"`tile` needs transforms that see less than {_REACHES[-1]} positions of y around one")


def in_tiles(transform: Callable[[Tensor], Tensor], x: Tensor, scale: _Scale, tile: int, margin: int) -> Tensor:
    """A transform computed tile by tile.

    Args:
        transform: what is computed.
        x: (B, C, h, w), whole cells.
        scale: of the transform.
        tile: side of a tile, in cells.
        margin: cells around a tile that its outputs depend on.
    """
    height, width = (n // scale.before for n in x.shape[-2:])
    out: Tensor | None = None
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            up, back = max(top - margin, 0), max(left - margin, 0)
            rows = slice(up * scale.before, min(bottom + margin, height) * scale.before)
            columns = slice(back * scale.before, min(right + margin, width) * scale.before)
            done = transform(x[..., rows, columns].contiguous())
            if out is None:
                out = done.new_empty(*done.shape[:2], height * scale.after, width * scale.after)
            inner_rows = slice((top - up) * scale.after, (bottom - up) * scale.after)
            inner_columns = slice((left - back) * scale.after, (right - back) * scale.after)
            here = slice(top * scale.after, bottom * scale.after), slice(left * scale.after, right * scale.after)
            out[..., here[0], here[1]] = done[..., inner_rows, inner_columns]
    if out is None:
        raise ValueError("an image must have a pixel")
    return out


class _Known(NamedTuple):
    """The latest input of a transform, and its output."""

    given: Tensor
    found: Tensor


class _Remembered:
    """A transform that is not computed again on its latest input.

    Equal means equal to the bit and in memory layout, so that the remembered output is the one that would be computed.
    """

    def __init__(self, compute: Callable[[Tensor], Tensor], memory: dict[str, _Known], name: str) -> None:
        self._compute, self._memory, self._name = compute, memory, name

    def __call__(self, x: Tensor) -> Tensor:
        known = self._memory.get(self._name)
        if known is None or not _same(known.given, x):
            known = self._memory[self._name] = _Known(x.clone(), self._compute(x))
        return known.found.clone()


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)


class Transforms:
    """Sets how a network's g_a and g_s are computed.

    Args:
        network: the codec.
        stride: pixels that the sides of an image must be multiples of.
        precision: "float32", "bf16" or "auto", see `precision.transforms_in`.

    Raises:
        ValueError: another precision, or bf16 for a network without transforms.
    """

    def __init__(self, network: nn.Module, stride: int, precision: str) -> None:
        self._network, self._stride, self._precision = network, stride, precision
        self._reaches: tuple[int, int] | None = None
        self._memory: dict[str, _Known] | None = None
        with transforms_in(network, precision):
            pass

    def _scales(self) -> tuple[_Scale, _Scale]:
        pixels = cell(self._network, self._stride)
        return _Scale(pixels, 1), _Scale(1, pixels)

    def _measured(self) -> tuple[int, int]:
        if self._reaches is None:
            g_a, g_s = _parts(self._network, "tile")
            down, up = self._scales()
            like = _one(g_a)
            with torch.no_grad():
                channels = g_a(torch.zeros(1, 3, self._stride, self._stride, device=like.device)).shape[1]
            self._reaches = reach(g_a, 3, down, like.device), reach(g_s, channels, up, like.device)
        return self._reaches

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Compute neither transform twice in a row on the same values within the block."""
        self._memory = {}
        try:
            yield
        finally:
            self._memory = None

    @contextlib.contextmanager
    def use(self, tile: int) -> Iterator[None]:
        """Compute so within the block.

        Args:
            tile: side of a tile in pixels, a multiple of 64; 0 computes the whole image at once.

        Raises:
            ValueError: the network has no transforms that can be computed so.
        """
        if tile % TILE_UNIT:
            raise ValueError(f"`tile` (={tile}) must be a multiple of {TILE_UNIT}")
        with transforms_in(self._network, self._precision), contextlib.ExitStack() as stack:
            if tile:
                parts, scales, margins = _parts(self._network, "tile"), self._scales(), self._measured()
                for part, scale, margin in zip(parts, scales, margins, strict=True):
                    stack.enter_context(_computed(part, _tiled(part.forward, scale, tile // max(scale), margin)))
            if self._memory is not None:
                for name in ("g_a", "g_s"):
                    part = getattr(self._network, name, None)
                    if isinstance(part, nn.Module):
                        stack.enter_context(_computed(part, _Remembered(part.forward, self._memory, name)))
            yield


@contextlib.contextmanager
def _computed(part: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the block, `part` computes `forward`."""
    before = part.forward
    part.forward = forward
    try:
        yield
    finally:
        part.forward = before


def _tiled(compute: Callable[[Tensor], Tensor], scale: _Scale, side: int, margin: int) -> Callable[[Tensor], Tensor]:
    def by_tiles(x: Tensor) -> Tensor:
        return in_tiles(compute, x, scale, side, margin)

    return by_tiles
