"""Entropy tables without their padding, for codec files of few bytes.

CompressAI keeps a codec's cumulative distributions as rows of one matrix, as long as the longest; a codec stored in
float16 has them one after another. Unpacked they are the same tensors, so a codec's fingerprint does not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_TABLE, _LENGTH = "_quantized_cdf", "_cdf_length"
_LARGEST = 2**24  # numbers of an unpacked table; that of a Gaussian's 64 scales has 2e5


def pack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every table (rows, longest) as the used parts of its rows, one after another."""
    packed = dict(tensors)
    for name, table in tensors.items():
        if name.endswith(_TABLE) and table.dim() == 2:
            lengths = tensors[name.removesuffix(_TABLE) + _LENGTH].tolist()
            rest = torch.arange(table.shape[1])[None] >= torch.tensor(lengths)[:, None]
            if lengths and not table[rest].any():
                packed[name] = torch.cat([row[:length] for row, length in zip(table, lengths, strict=True)])
    return packed


def unpack(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every packed table as a matrix again, padded with zeros; other tensors as they are.

    Args:
        path: the file, for messages.
        tensors: of the file, by name.

    Raises:
        ValueError: a table and its rows' lengths do not fit each other.
    """
    found = dict(tensors)
    for name, table in tensors.items():
        if not name.endswith(_TABLE) or table.dim() != 1 or not len(table):
            continue
        lengths = tensors.get(name.removesuffix(_TABLE) + _LENGTH, torch.empty(0))
        rows: list[int] = lengths.tolist() if lengths.dim() == 1 and lengths.dtype == torch.int32 else []
        fits = bool(rows) and min(rows) >= 0 and sum(rows) == len(table) and len(rows) * max(rows) <= _LARGEST
        if not fits:
            raise ValueError(f"{path}: the lengths of its tables do not fit {name}, of {len(table)} numbers")
        found[name] = torch.nn.utils.rnn.pad_sequence(list(table.split(rows)), batch_first=True)
    return found
