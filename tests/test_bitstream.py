"""The container gives back what it was given, or says what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regicomp import bitstream
from regicomp.bitstream import Stream

FINGERPRINT = bytes(range(32))
STREAM = Stream(FINGERPRINT[:4], 17, 33, [1, 1], [[b"latent" * 20], [b"side"]])


@given(st.integers(1, 2**31), st.integers(1, 2**31), st.lists(st.lists(st.binary(max_size=50), max_size=2), max_size=3))
def test_unpacking_inverts_packing(width: int, height: int, strings: list[list[bytes]]) -> None:
    stream = Stream(FINGERPRINT[:4], width, height, [2, 3], strings)
    assert bitstream.unpack(bitstream.pack(stream), FINGERPRINT) == stream


def test_overhead_is_a_few_bytes() -> None:
    assert len(bitstream.pack(STREAM)) - 124 <= 32


def test_golden_bytes() -> None:
    """The format is a contract: a change of these bytes is a breaking release."""
    packed = bitstream.pack(Stream(b"abcd", 17, 33, (1, 2), [[b"y"], [b"z"]]))
    assert packed.hex() == "52474301d1a9129395c4046162636411219201029291c4017991c4017a"


@given(st.data())
@settings(max_examples=300)
def test_any_altered_byte_is_noticed(data: st.DataObject) -> None:
    packed = bytearray(bitstream.pack(STREAM))
    index = data.draw(st.integers(0, len(packed) - 1))
    packed[index] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="stream"):
        bitstream.unpack(bytes(packed), FINGERPRINT)


@pytest.mark.parametrize("kept", [0, 3, 7, 20, 100])
def test_a_cut_stream_is_noticed(kept: int) -> None:
    with pytest.raises(ValueError, match="stream"):
        bitstream.unpack(bitstream.pack(STREAM)[:kept], FINGERPRINT)


def test_another_codec_s_stream_is_refused() -> None:
    with pytest.raises(ValueError, match="was made by codec 00010203, not by this one"):
        bitstream.unpack(bitstream.pack(STREAM), bytes(32))
