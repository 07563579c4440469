"""Symbols to bytes and back through CompressAI's range coder, with its tables prepared once.

CompressAI turns all tables of an entropy model into Python lists at every call, some 200,000 numbers for 64 scales,
nine tenths of them padding. Here they are made once a model, without the padding, and a call hands over only those that
its symbols need. The bytes are CompressAI's.

Legend: n symbols coded at once.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck, EntropyModel, GaussianConditional
from torch import Tensor

from regicomp.entropy_coding.range_coder import Decoder as RangeDecoder
from regicomp.entropy_coding.range_coder import Encoder as RangeEncoder

# An entropy model, integers in any dtype, and their tables' indexes, of equal shapes.
Part = tuple[EntropyModel, Tensor, Tensor]
# rANS keeps a state of 64 bits, so that no stream is shorter.
_LEAST_BYTES = 8
# CompressAI's encoder reserves a word a symbol, and its last state alone takes two: fewer are written out of bounds.
_LEAST_SYMBOLS = 4


class Tables(NamedTuple):
    """Cumulative distributions as the range coder takes them, one an index."""

    distributions: list[list[int]]
    lengths: list[int]
    offsets: list[int]


class _Prepared(NamedTuple):
    source: tuple[Tensor, ...]  # what the tables were made from
    tables: Tables


_prepared: WeakKeyDictionary[EntropyModel, _Prepared] = WeakKeyDictionary()


def tables(model: EntropyModel) -> Tables:
    """The tables of an entropy model, made anew only if its own have changed.

    Raises:
        ValueError: it has none yet.
    """
    source: tuple[Tensor, ...] = (model.quantized_cdf, model.cdf_length, model.offset)  # pyright: ignore
    if not source[0].numel():
        raise ValueError("the codec has no entropy tables yet; call `update()` first")
    source = tuple(t.cpu() for t in source)
    known = _prepared.get(model)
    if known is not None and all(torch.equal(a, b) for a, b in zip(known.source, source, strict=True)):
        return known.tables
    cdf, lengths, offsets = (t.tolist() for t in source)
    made = Tables([row[:length] for row, length in zip(cdf, lengths, strict=True)], lengths, offsets)
    _prepared[model] = _Prepared(tuple(t.clone() for t in source), made)
    return made


def scale_indexes(model: GaussianConditional, scales: Tensor) -> Tensor:
    """The table of each scale: the first of the scale table that is not below it. Any shape, int64."""
    bounded = torch.clamp(scales, min=model.lower_bound_scale.bound)
    return torch.bucketize(bounded, model.scale_table[:-1])


def _chosen(tables: Tables, indexes: Tensor) -> tuple[list[int], list[list[int]], list[int], list[int]]:
    """`indexes` and the tables between the least and the greatest of them, counted from the least."""
    low, high = (int(bound) for bound in indexes.aminmax())
    window = slice(low, high + 1)
    counted = (indexes - low).flatten().tolist()
    return counted, tables.distributions[window], tables.lengths[window], tables.offsets[window]


def joined(parts: list[Part]) -> list[Part]:
    """The same symbols in fewer parts: neighbours of one model become one."""
    made: list[Part] = []
    for model, run in groupby(parts, key=lambda part: part[0]):
        _, symbols, indexes = zip(*run, strict=True)
        made.append((model, torch.cat([t.flatten() for t in symbols]), torch.cat([t.flatten() for t in indexes])))
    return made


def encode(parts: list[Part]) -> bytes:
    """One stream of symbols.

    Args:
        parts: in coding order.

    Raises:
        ValueError: a model has no entropy tables yet, a symbol is not a number that the coder can take, or there are
            fewer than four.
    """
    count = sum(symbols.numel() for _, symbols, _ in parts)
    if count < _LEAST_SYMBOLS:
        raise ValueError(f"a stream of {count} symbols is too short for the coder; {_LEAST_SYMBOLS} is the least")
    encoder: Any = RangeEncoder()
    for model, symbols, indexes in parts:
        prepared = tables(model)
        if not symbols.numel():
            continue
        if not bool((symbols.abs() < 2**30).all()):
            raise ValueError("the latent (=inf, nan or over 2^30) must be made of small numbers to be coded")
        indexes, *chosen = _chosen(prepared, indexes)
        encoder.encode_with_indexes(symbols.flatten().int().tolist(), indexes, *chosen)
    return encoder.flush()


def _channels(model: EntropyBottleneck, height: int, width: int) -> Tensor:
    """The table of each sample of z, its channel: (1, C, height, width), int64."""
    channels = torch.arange(model.channels, device=model.quantiles.device)
    return channels[:, None, None].expand(1, -1, height, width)


def of_z(model: EntropyBottleneck, symbols: Tensor) -> Part:
    """z's symbols, (1, C, height, width), with their tables."""
    return model, symbols, _channels(model, *symbols.shape[2:])


def read_z(model: EntropyBottleneck, data: bytes, height: int, width: int) -> Tensor:
    """z's symbols, (1, C, height, width), float32, from the stream that they alone are in."""
    tables(model)
    return Decoder(data).take(model, _channels(model, height, width))


class Decoder:
    """Reads a stream that `encode` wrote, part by part.

    Args:
        data: the stream.

    Raises:
        ValueError: it is too short to be one.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) < _LEAST_BYTES:
            raise ValueError(f"a stream of {len(data)} bytes is cut; {_LEAST_BYTES} is the least")
        self._decoder: Any = RangeDecoder()
        self._decoder.set_stream(data)

    def take(self, model: EntropyModel, indexes: Tensor) -> Tensor:
        """The next symbols, one an index: float32 of `indexes`' shape, on its device."""
        if not indexes.numel():
            return torch.zeros(indexes.shape, device=indexes.device)
        values = self._decoder.decode_stream(*_chosen(tables(model), indexes))
        symbols = torch.from_numpy(np.array(values, dtype=np.float32))
        return symbols.reshape(indexes.shape).to(indexes.device)
