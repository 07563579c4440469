"""CompressAI's range coder behind a guard: checked input, bounded reading, and a checksum of the symbols that passed.

The coder is C++ and trusts what it is given. Its decoder reads 32-bit words from where the stream lies in memory and
never asks whether the stream has ended, so a short or crafted stream would make it read whatever follows. Here a
stream is followed by as many zero bytes as the decoder can possibly read; docs/format.md has the arithmetic.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
from compressai.ans import BufferedRansEncoder, RansDecoder, RansEncoder
from compressai.entropy_models import EntropyModel
from numpy.typing import NDArray
from torch import nn

Table = Sequence[Sequence[int]]

_LEAST_STATE, _STATES = 1 << 31, 1 << 63  # a running coder's 64-bit state lies in [least, states)
_TOTAL = 1 << 16  # of a table's frequencies
_FLAG_BITS = 4  # least cost of an escaped symbol beside the escape itself
_LARGEST_SYMBOL = 1 << 27  # the encoder's loop over a symbol's four-bit digits does not end for much larger ones
_ROUND = 1 << 16  # symbols decoded between two checks
_BYTES_A_SYMBOL = 2  # a table's symbol takes at most 16 bits
_BYTES_AN_ESCAPE = 74  # on zeros: 16 bits, 8 digits of 15 and one of 14 that count digits, 134 digits
_DIGIT_GAIN = 15  # digits read for one digit of a count


class Tally:
    """The symbols that passed through the range coder while it was watched.

    Args:
        symbols: most symbols that one stream may hold; None trusts the streams, which are then not followed by zeros.
        escape_bits: least cost of an escape, from `guard`.
    """

    def __init__(self, symbols: int | None, escape_bits: float) -> None:
        self.limit = symbols
        self.escape_bits = escape_bits
        self.symbols = 0  # encoded
        self.encoded: list[int] = []  # CRC-32 of the symbols of each stream
        self.decoded: list[int] = []


_WATCHING: ContextVar[Tally | None] = ContextVar("_WATCHING", default=None)


@contextlib.contextmanager
def watched(symbols: int | None = None, escape_bits: float = 0.0) -> Iterator[Tally]:
    """Count and check all that guarded coders code in the block; see `Tally`."""
    tally = Tally(symbols, escape_bits)
    token = _WATCHING.set(tally)
    try:
        yield tally
    finally:
        _WATCHING.reset(token)


def _checked(symbols: Any) -> NDArray[np.int32]:
    """The symbols as 32-bit integers.

    Raises:
        ValueError: a symbol is out of the coder's range, as one that comes of NaN is.
    """
    wide = np.asarray(symbols, dtype=np.int64).reshape(-1)
    if wide.size and max(int(wide.max()), -int(wide.min())) >= _LARGEST_SYMBOL:
        raise ValueError("the codec's latents are not finite or beyond ±2^27: the image cannot be coded with it")
    return wide.astype("<i4")


class Encoder:
    """`compressai.ans.BufferedRansEncoder`, checked and watched."""

    def __init__(self) -> None:
        self._encoder = BufferedRansEncoder()
        self._crc = 0
        self._symbols = 0

    def encode_with_indexes(self, symbols: Any, indexes: Any, cdfs: Any, lengths: Any, offsets: Any) -> None:
        """Append symbols, each coded with the table its index names."""
        checked = _checked(symbols)
        self._encoder.encode_with_indexes(symbols, indexes, cdfs, lengths, offsets)
        self._crc = zlib.crc32(checked.tobytes(), self._crc)
        self._symbols += checked.size

    def flush(self) -> bytes:
        """The stream of all symbols since the last flush."""
        stream = self._encoder.flush()
        if (tally := _WATCHING.get()) is not None:
            tally.encoded.append(self._crc)
            tally.symbols += self._symbols
        self._crc = self._symbols = 0
        return stream


class Decoder:
    """`compressai.ans.RansDecoder` that cannot read past what it was given, watched."""

    def __init__(self) -> None:
        self._decoder = RansDecoder()
        self._bytes = 0  # of the stream
        self._left: int | None = None  # symbols that may still be asked for
        self._escapes = 0  # seen
        self._tally: Tally | None = None
        self._stream = 0  # its place in the tally

    def set_stream(self, stream: bytes, symbols: int | None = None) -> None:
        """Begin a stream.

        Args:
            stream: what an encoder's `flush` gave.
            symbols: most symbols that will be asked for; None takes the watching tally's limit.

        Raises:
            ValueError: no encoder's stream begins like this one.
        """
        state = int.from_bytes(stream[:8], "little")
        if len(stream) < 8 or not _LEAST_STATE <= state < _STATES:
            raise ValueError("a stream is malformed: it does not begin as a range coder's")
        self._tally = _WATCHING.get()
        self._left, self._bytes, self._escapes = None, len(stream), 0
        if self._tally is not None:
            self._stream = len(self._tally.decoded)
            self._tally.decoded.append(0)
            if self._tally.limit is not None:
                self._left = self._tally.limit if symbols is None else symbols
                stream += bytes(padding(len(stream), self._left, self._tally.escape_bits))
        self._decoder.set_stream(stream)  # pyright: ignore[reportArgumentType]

    def decode_stream(self, indexes: Any, cdfs: Any, lengths: Any, offsets: Any) -> list[int]:
        """The next symbols, each decoded with the table its index names.

        Raises:
            ValueError: more symbols are asked for than were announced, or the stream holds what no encoder writes.
        """
        if self._left is not None:
            if len(indexes) > self._left:
                raise ValueError("a stream is malformed: the codec asks for more symbols than the picture can have")
            self._left -= len(indexes)
        values: list[int] = []
        for start in range(0, len(indexes), _ROUND):
            here = indexes[start : start + _ROUND]
            decoded = self._decoder.decode_stream(here, cdfs, lengths, offsets)
            self._check(np.asarray(decoded, "<i4"), np.asarray(here), lengths, offsets)
            values = values + decoded if values else decoded
        return values

    def decode_with_indexes(self, stream: bytes, indexes: Any, cdfs: Any, lengths: Any, offsets: Any) -> list[int]:
        """All symbols of a stream; see `set_stream` and `decode_stream`."""
        self.set_stream(stream, len(indexes))
        return self.decode_stream(indexes, cdfs, lengths, offsets)

    def _check(self, values: NDArray[np.int32], indexes: Any, lengths: Any, offsets: Any) -> None:
        if self._tally is None:
            return
        self._tally.decoded[self._stream] = zlib.crc32(values.tobytes(), self._tally.decoded[self._stream])
        first = np.asarray(offsets)[indexes]
        end = first + np.asarray(lengths)[indexes] - 2
        outside = (values < first) | (values >= end)
        if not outside.any():
            return
        self._escapes += int(outside.sum())
        if self._escapes > escapes(self._bytes, self._tally.escape_bits):
            raise ValueError("a stream is malformed: it holds more escapes than its length allows")


def escapes(length: int, bits: float) -> int:
    """Most escapes in an encoder's stream of `length` bytes if one costs `bits`, and the count of its digits four."""
    return int(8 * length / (bits + _FLAG_BITS)) + 1


def padding(length: int, symbols: int, escape_bits: float) -> int:
    """Zero bytes that must follow a stream so that the decoder stays inside them.

    Args:
        length: of the stream in bytes; it begins with a valid state.
        symbols: most symbols that will be decoded.
        escape_bits: least cost of an escape.
    """
    # `Decoder` stops at the latest one round after the last escape that an encoder's stream could hold.
    escaped = min(symbols, escapes(length, escape_bits) + _ROUND)
    return _BYTES_A_SYMBOL * symbols + _BYTES_AN_ESCAPE * escaped + _DIGIT_GAIN * (length + 16) + 64


class Coder:
    """The interface that CompressAI's entropy models call; see `Encoder` and `Decoder`."""

    name = "ans"  # CompressAI's name of the method, which it writes when a model is pickled

    def __init__(self) -> None:
        self._encoder = RansEncoder()

    def encode_with_indexes(self, symbols: Any, indexes: Any, cdfs: Any, lengths: Any, offsets: Any) -> bytes:
        """A stream of symbols, each coded with the table its index names."""
        checked = _checked(symbols)
        if (tally := _WATCHING.get()) is not None:
            tally.encoded.append(zlib.crc32(checked.tobytes()))
            tally.symbols += checked.size
        return self._encoder.encode_with_indexes(symbols, indexes, cdfs, lengths, offsets)

    def decode_with_indexes(self, stream: bytes, indexes: Any, cdfs: Any, lengths: Any, offsets: Any) -> list[int]:
        """The symbols of a stream."""
        return Decoder().decode_with_indexes(stream, indexes, cdfs, lengths, offsets)


def guard(network: nn.Module) -> float:
    """Check a codec's tables and let its entropy models code through the guard.

    Returns:
        The least cost of an escape in bits, for `watched`.

    Raises:
        ValueError: a table is not one that the range coder can be given.
    """
    widest = 1
    for name, module in network.named_modules():
        if not isinstance(module, EntropyModel):
            continue
        tables: list[Any] = [module.quantized_cdf, module.cdf_length, module.offset]
        widest = max(widest, _widest_escape(name, *(table.cpu().numpy() for table in tables)))
        module.entropy_coder = Coder()  # pyright: ignore[reportAttributeAccessIssue]
    return math.log2(_TOTAL / widest)


def _widest_escape(name: str, cdfs: NDArray[Any], lengths: NDArray[Any], offsets: NDArray[Any]) -> int:
    """The largest frequency of an escape, the last symbol of each row; a row rises strictly from 0 to 2^16."""
    fits = cdfs.ndim == 2 and lengths.shape == offsets.shape == cdfs.shape[:1] and len(cdfs) > 0
    if fits and np.all(lengths >= 3) and np.all(lengths <= cdfs.shape[1]):
        steps = np.diff(cdfs.astype(np.int64), axis=1)
        inside = np.arange(1, cdfs.shape[1]) < lengths[:, None]
        rows = np.arange(len(cdfs))
        whole = np.all(cdfs[:, 0] == 0) and np.all(cdfs[rows, lengths - 1] == _TOTAL)
        if whole and np.all((steps > 0) | ~inside):
            return int(steps[rows, lengths - 2].max())
    raise ValueError(f"the codec's entropy tables of `{name}` are malformed; export the codec again")
