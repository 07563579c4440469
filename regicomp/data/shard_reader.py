"""Training images in tar shards (WebDataset's layout), read by index through an offset table.

A folder of shards holds `shard-000000.tar`, …, each with `shard-000000.json` beside it (of every image offset, bytes,
width, height, and original name), and `index.json`, written last, which lists them. Any WebDataset reader can stream
the tar files; here image i is one `pread`, so crops stay a pure function of (seed, position): docs/decisions/shards.md.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regicomp.data import images
from regicomp.data.images import BadImage, Header, Pixels

INDEX = "index.json"
FORMAT = "regicomp-shards"
SCHEMA = 1


class ShardImage(NamedTuple):
    """An image in a shard; a `StoredImage` of data/image_pool.py."""

    shard: Path
    number: int  # of the image in its shard
    offset: int  # of its file's first byte in the tar file
    bytes: int
    width: int
    height: int

    @property
    def name(self) -> str:
        """Shard and original name, looked up when it is needed: names would be most of a large index."""
        return f"{self.shard}:{_json(self.shard.with_suffix('.json'))['names'][self.number]}"

    def header(self) -> Header:
        """From the index; what is unusual about the image was reported when the shard was made."""
        return Header(self.width, self.height)

    def read(self) -> Pixels:
        """One read at its offset, decoded, (H, W, 3).

        Raises:
            BadImage: the shard is gone, cut off, or not what was indexed.
        """
        try:
            file = _open(str(self.shard), os.getpid())
            data = os.pread(file.number, self.bytes, self.offset)
        except OSError as error:
            _open.cache_clear()  # a stale handle of a network file system must not be kept
            what = images.REFUSED["storage"]
            raise BadImage(f"{self.shard}, image {self.number}: {what} ({error.strerror})", "storage") from error
        if len(data) != self.bytes:
            raise BadImage(f"{self.shard}, image {self.number}: the shard was cut off since it was indexed")
        return images.decode(data, f"{self.shard}, image {self.number}")


class _File:
    """A file descriptor that closes with its last reference."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@lru_cache(maxsize=256)
def _open(path: str, process: int) -> _File:
    return _File(path)


class ShardList(Sequence[ShardImage]):
    """All images of prepared shards, in the order in which they were prepared; a sequence of ShardImage.

    Args:
        folder: what `python -m regicomp.shards` wrote.

    Raises:
        ValueError: the preparation was not finished, or a shard is missing, cut off or of another size than indexed.
    """

    def __init__(self, folder: Path) -> None:
        index = _json(folder / INDEX)
        if index.get("format") != FORMAT or index.get("schema") != SCHEMA:
            raise ValueError(
                f"{folder / INDEX}: is {index.get('format')!r}, schema {index.get('schema')!r}; expected {FORMAT!r}, "
                f"{SCHEMA}, as `python -m regicomp.shards` writes it"
            )
        self._shards: list[Path] = []
        self._rows: list[NDArray[np.int64]] = []
        self._ends: list[int] = []
        for shard in index["shards"]:
            path = folder / Path(shard["file"]).name
            found = path.stat().st_size if path.is_file() else None
            if found != shard["bytes"]:
                raise ValueError(f"{path}: has {found} bytes, expected {shard['bytes']}; prepare the shards again")
            self._shards.append(path)
            self._rows.append(np.array(_json(path.with_suffix(".json"))["images"], dtype=np.int64).reshape(-1, 4))
            self._ends.append(len(self._rows[-1]) + (self._ends[-1] if self._ends else 0))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> ShardImage:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = bisect_right(self._ends, index)
        first = self._ends[shard - 1] if shard else 0
        return ShardImage(self._shards[shard], index - first, *self._rows[shard][index - first].tolist())


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); prepare the shards again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: holds no index; prepare the shards again")
    return value


def prepared(folder: str | Path) -> bool:
    """Whether a folder holds shards rather than images.

    Raises:
        ValueError: it holds shards whose preparation was not finished.
    """
    folder = Path(folder)
    if (folder / INDEX).is_file():
        return True
    if next(folder.glob("shard-*.tar"), None) is not None:
        raise ValueError(
            f"{folder}: the preparation of these shards was not finished; run the same `python -m regicomp.shards` "
            "once more"
        )
    return False
