"""The container gives back what it was given, or says what is wrong."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regicomp.image_codec import container as bitstream
from regicomp.image_codec.container import Container

FINGERPRINT = bytes(range(32))
CONTAINER = Container(FINGERPRINT[:4], 17, 33, False, 0, 1, None, None, (b"latent" * 20, b"side"), 12345)


def signed(body: bytes) -> bytes:
    """A container whose checksum is right, whatever it holds."""
    return bitstream.MAGIC + bytes([bitstream.VERSION]) + zlib.crc32(body).to_bytes(4, "big") + body


@given(
    st.integers(1, 2**11),
    st.integers(1, 2**11),
    st.booleans(),
    st.sampled_from([0, 64, 1024, 2048]),
    st.sampled_from([1, 2, 4, 8]),
    st.none() | st.binary(max_size=300),
    st.none() | st.binary(max_size=300),
    st.lists(st.binary(max_size=300), min_size=1, max_size=11),
    st.integers(0, 2**32 - 1),
    st.none() | st.integers(1000, 64000),
)
def test_unpacking_inverts_packing(
    width: int,
    height: int,
    grey: bool,
    tile: int,
    threads: int,
    alpha: bytes | None,
    profile: bytes | None,
    streams: list[bytes],
    check: int,
    quality: int | None,
) -> None:
    pieces = (alpha, profile, tuple(streams))
    given_ = Container(FINGERPRINT[:4], width, height, grey, tile, threads, *pieces, check, quality)
    container = bitstream.long_enough(given_)
    assert bitstream.unpack(bitstream.pack(container)) == container
    assert container.streams[:-1] == given_.streams[:-1]
    assert container.streams[-1].rstrip(b"\0") == given_.streams[-1].rstrip(b"\0")


def test_overhead_is_a_few_bytes() -> None:
    kodak = CONTAINER._replace(width=768, height=512, streams=(bytes(20000), bytes(900)))
    assert len(bitstream.pack(kodak)) - 20900 <= 27
    elic = kodak._replace(streams=(bytes(2000),) * 11)
    assert len(bitstream.pack(elic)) - 22000 <= 44


def test_golden_bytes() -> None:
    """The format is a contract: a change of these bytes is a breaking release."""
    packed = bitstream.pack(Container(b"abcd", 17, 300, True, 256, 4, b"A", b"P", (b"y", b"zz"), 0x01020304))
    assert packed.hex() == "52474302f0bc8b3f61626364010203042f11ac02040201020101415079" + "7a7a"


@given(st.data())
@settings(max_examples=300)
def test_any_altered_byte_is_noticed(data: st.DataObject) -> None:
    packed = bytearray(bitstream.pack(CONTAINER))
    index = data.draw(st.integers(0, len(packed) - 1))
    packed[index] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="file"):
        bitstream.unpack(bytes(packed))


@pytest.mark.parametrize("kept", [0, 3, 4, 7, 16, 20, 100])
def test_a_cut_file_is_noticed(kept: int) -> None:
    with pytest.raises(ValueError, match="file"):
        bitstream.unpack(bitstream.pack(CONTAINER)[:kept])


@given(st.binary(max_size=80))
@settings(max_examples=500)
def test_a_header_of_any_bytes_is_refused_or_describes_what_is_there(body: bytes) -> None:
    try:
        container = bitstream.unpack(signed(FINGERPRINT[:8] + body))
    except ValueError:
        return
    beside = [p for p in (container.alpha, container.profile) if p is not None]
    assert sum(map(len, [*container.streams, *beside])) < len(body)
    claimed = bitstream.padded_area(container.width, container.height)
    assert claimed < bitstream.FREE_PIXELS + bitstream.PIXELS_A_BYTE * (len(body) + 17)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"width": 0}, "is not the size of a picture"),
        ({"width": 2**21}, "is not the size of a picture"),
        ({"width": 2**20, "height": 2**20}, "more than `max_pixels`"),
        ({"width": 2**20, "height": 1}, "too few for a picture of 1048576x1"),
        ({"width": 2000, "height": 2000}, "too few for a picture of 2000x2000"),
        ({"width": 3000, "height": 2000, "streams": (bytes(20000),)}, "must be in tiles"),
        ({"tile": 64 * 40}, "its tiles"),
        ({"streams": ()}, "claims 0 streams"),
        ({"streams": (b"",) * 65}, "claims 65 streams"),
        ({"quality": 999}, r"its quality \(=0.999\)"),
        ({"quality": 64001}, r"its quality \(=64.001\)"),
    ],
)
def test_a_header_out_of_bounds_is_refused(changes: dict[str, object], told: str) -> None:
    packed = bitstream.pack(CONTAINER._replace(**changes))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=told):
        bitstream.unpack(packed)


def test_other_versions_and_files_are_told() -> None:
    packed = bitstream.pack(CONTAINER)
    with pytest.raises(ValueError, match=r"version \(=4\) must be 2 or 3; a newer regicomp wrote it"):
        bitstream.unpack(packed[:3] + b"\x04" + packed[4:])
    # A file with a quality is of version 3, one without of version 2, and neither passes for the other.
    with_quality = bitstream.pack(CONTAINER._replace(quality=3500))
    for data, other in ((packed, b"\x03"), (with_quality, b"\x02")):
        with pytest.raises(ValueError, match="flags of no known meaning"):
            bitstream.unpack(data[:3] + other + data[4:])
    with pytest.raises(ValueError, match="not a regicomp file"):
        bitstream.unpack(b"\x89PNG" + packed)


def test_another_codec_s_file_is_refused() -> None:
    bitstream.check_codec(CONTAINER, FINGERPRINT)
    with pytest.raises(ValueError, match="was made by codec 00010203, not by this one"):
        bitstream.check_codec(CONTAINER, bytes(32))


def test_the_content_check_sees_header_and_symbols_but_not_their_order() -> None:
    check = bitstream.content_check(CONTAINER, [1, 2])
    assert check == bitstream.content_check(CONTAINER, [2, 1])
    assert check == bitstream.content_check(CONTAINER._replace(check=7), [1, 2])
    others = [
        bitstream.content_check(CONTAINER._replace(width=18), [1, 2]),
        bitstream.content_check(CONTAINER._replace(grey=True), [1, 2]),
        bitstream.content_check(CONTAINER._replace(profile=b""), [1, 2]),
        bitstream.content_check(CONTAINER._replace(quality=3500), [1, 2]),
        bitstream.content_check(CONTAINER._replace(quality=3501), [1, 2]),
        bitstream.content_check(CONTAINER, [1, 3]),
        bitstream.content_check(CONTAINER, [1]),
    ]
    assert len({check, *others}) == 8


def test_inflating_is_bounded() -> None:
    bomb = zlib.compress(bytes(10**7))
    with pytest.raises(ValueError, match="its alpha has not the length"):
        bitstream.inflate(bomb, 1000, "alpha")
    with pytest.raises(ValueError, match="its alpha cannot be unpacked"):
        bitstream.inflate(b"hello", 1000, "alpha")
    assert bitstream.inflate(bitstream.deflate(b"a" * 1000), 1000, "alpha") == b"a" * 1000
