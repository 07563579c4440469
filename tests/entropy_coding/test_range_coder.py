"""The guard holds whatever the stream: the decoder reads no byte beyond its padding, and says what it decodes."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from compressai.ans import RansDecoder, RansEncoder
from compressai.models import ScaleHyperprior
from hypothesis import given, settings
from hypothesis import strategies as st

from regicomp.entropy_coding import range_coder
from regicomp.entropy_coding.range_coder import Coder, Decoder, Encoder

# Two tables: one whose escape is rare, one whose escape is as likely as can be; a hostile codec's.
CDFS = [[0, 1000, 64000, 65535, 65536], [0, 1, 2, 65536]]
LENGTHS = [5, 4]
OFFSETS = [-1, 0]


def read_by_hand(stream: bytes, indexes: list[int]) -> tuple[list[int | None], int]:
    """The decoded values and the number of bytes read; None for a value too wide for its integer."""
    state, at = int.from_bytes(stream[:8], "little"), 8

    def renormalize() -> None:
        nonlocal state, at
        if state < 1 << 31:
            state = state << 32 | int.from_bytes(stream[at : at + 4].ljust(4, b"\0"), "little")
            at += 4

    def digit() -> int:
        nonlocal state
        low = state & 15
        state >>= 4
        renormalize()
        return low

    values: list[int | None] = []
    for index in indexes:
        cdf, last = CDFS[index], LENGTHS[index] - 2
        low = state & 0xFFFF
        symbol = next(k for k, bound in enumerate(cdf) if bound > low) - 1
        state = (cdf[symbol + 1] - cdf[symbol]) * (state >> 16) + low - cdf[symbol]
        renormalize()
        if symbol == last:
            count = read = digit()
            while read == 15:
                read = digit()
                count += read
            raw = sum(digit() << 4 * k for k in range(count))
            symbol = -(raw >> 1) - 1 if raw & 1 else (raw >> 1) + last
            values.append(symbol + OFFSETS[index] if count < 8 else None)
        else:
            values.append(symbol + OFFSETS[index])
    return values, at


def hostile(data: st.DataObject) -> bytes:
    """Streams of random bytes, of long runs of ones, and of little else than a valid state."""
    state = data.draw(st.integers(1 << 31, (1 << 63) - 1) | st.just(0x7FFFFFFFFFFFFFFF) | st.just(1 << 31))
    body = data.draw(st.binary(max_size=40) | st.integers(0, 60).map(lambda n: b"\xff" * n))
    return state.to_bytes(8, "little") + body


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_the_decoder_stays_in_its_padding_and_decodes_what_it_should(data: st.DataObject) -> None:
    stream = hostile(data)
    indexes = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=60))
    expected, read = read_by_hand(stream, indexes)
    room = range_coder.padding(len(stream), len(indexes), 0.0)
    assert read <= len(stream) + room
    decoded = RansDecoder().decode_with_indexes(stream + bytes(room), indexes, CDFS, LENGTHS, OFFSETS)
    assert all(e is None or e == d for e, d in zip(expected, decoded, strict=True))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_watched_decoder_decodes_or_refuses(data: st.DataObject) -> None:
    stream = data.draw(st.binary(max_size=60)) if data.draw(st.booleans()) else hostile(data)
    indexes = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=60))
    with range_coder.watched(60) as tally:
        try:
            decoded = Coder().decode_with_indexes(stream, indexes, CDFS, LENGTHS, OFFSETS)
        except ValueError:
            return
    assert tally.decoded == [zlib.crc32(np.array(decoded, "<i4").tobytes())]


@given(st.lists(st.tuples(st.integers(-(2**27) + 1, 2**27 - 1) | st.integers(-3, 3), st.integers(0, 1)), min_size=4))
@settings(deadline=None)
def test_what_is_encoded_is_decoded_and_both_sides_count_the_same(coded: list[tuple[int, int]]) -> None:
    symbols, indexes = [list(column) for column in zip(*coded, strict=True)]
    with range_coder.watched(len(symbols), 0.0) as tally:
        encoder = Encoder()
        encoder.encode_with_indexes(symbols, indexes, CDFS, LENGTHS, OFFSETS)
        stream = encoder.flush()
        assert stream == RansEncoder().encode_with_indexes(symbols, indexes, CDFS, LENGTHS, OFFSETS)
        decoder = Decoder()
        decoder.set_stream(stream)
        half = len(symbols) // 2
        decoded = decoder.decode_stream(indexes[:half], CDFS, LENGTHS, OFFSETS)
        decoded += decoder.decode_stream(indexes[half:], CDFS, LENGTHS, OFFSETS)
        with pytest.raises(ValueError, match="more symbols"):
            decoder.decode_stream([0], CDFS, LENGTHS, OFFSETS)
    assert decoded == symbols
    assert tally.encoded == tally.decoded
    assert tally.symbols == len(symbols)


def test_more_rounds_than_one_decode_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols, indexes = [k % 7 - 3 for k in range(1000)], [0] * 1000
    stream = Coder().encode_with_indexes(symbols, indexes, CDFS, LENGTHS, OFFSETS)
    monkeypatch.setattr(range_coder, "_ROUND", 64)
    with range_coder.watched(1000, 16.0):
        assert Coder().decode_with_indexes(stream, indexes, CDFS, LENGTHS, OFFSETS) == symbols


def test_too_many_escapes_end_the_decoding() -> None:
    stream = Coder().encode_with_indexes([100] * 50, [1] * 50, CDFS, LENGTHS, OFFSETS)
    with range_coder.watched(50, 0.0):
        assert Coder().decode_with_indexes(stream, [1] * 50, CDFS, LENGTHS, OFFSETS) == [100] * 50
    with range_coder.watched(50, 16.0), pytest.raises(ValueError, match="more escapes"):
        Coder().decode_with_indexes(stream, [1] * 50, CDFS, LENGTHS, OFFSETS)


@pytest.mark.parametrize("symbol", [2**27, -(2**31), 2**40])
def test_latents_out_of_range_are_refused(symbol: int) -> None:
    with pytest.raises(ValueError, match="latents are not finite"):
        Coder().encode_with_indexes([0, symbol], [0, 0], CDFS, LENGTHS, OFFSETS)


@pytest.mark.parametrize("damage", ["falling", "end", "length", "none"])
def test_malformed_tables_are_refused(damage: str) -> None:
    codec = ScaleHyperprior(4, 6)
    if damage != "none":
        codec.update(force=True, update_quantiles=True)
    tables = codec.entropy_bottleneck
    if damage == "falling":
        tables._quantized_cdf[0, 2] = 0
    elif damage == "end":
        tables._quantized_cdf[1, tables._cdf_length[1] - 1] = 65535
    elif damage == "length":
        tables._cdf_length[0] = torch.iinfo(torch.int32).max
    with pytest.raises(ValueError, match="`entropy_bottleneck` are malformed"):
        range_coder.guard(codec)
