"""A codec as people use it, on all five backbones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import picture as draw
from PIL import Image, ImageCms

import regicomp
from regicomp.entropy_coding import range_coder
from regicomp.image_codec import container as bitstream
from regicomp.image_codec import model_file
from regicomp.image_codec.codec import Codec, to_pixels, to_tensor
from regicomp.image_codec.model_file import Loaded, Spec
from regicomp.image_codec.sandbox import IsolatedDecoder

GOLDEN = Path(__file__).parents[1] / "golden"
BACKBONES = {
    "hyperprior": Spec("regicomp.backbone.hyperprior.Hyperprior", {"N": 12, "M": 16}),
    "autoregressive": Spec("regicomp.backbone.autoregressive.Autoregressive", {"N": 12, "M": 12}),
    "attention": Spec("regicomp.backbone.autoregressive.Attention", {"N": 12}),
    "elic": Spec("regicomp.backbone.elic.Elic", {"N": 12, "M": 20, "groups": [2, 2, 4, 4, 8]}),
    "mlicpp": Spec("regicomp.backbone.mlicpp.MLICPlusPlus", {"N": 12, "M": 16, "slices": 2, "heads": 2}),
}


def build(spec: Spec, **settings: Any) -> Codec:
    """A codec with random weights whose latents are not all zero."""
    torch.manual_seed(0)
    network: Any = model_file.build(spec, "backbone")
    with torch.no_grad():
        last = [m for m in network.g_a.modules() if isinstance(m, torch.nn.Conv2d)][-1]
        last.weight.mul_(30)
    network.update(force=True, update_quantiles=True)
    return Codec(Loaded(network.eval(), spec, {}, bytes(range(32))), **settings)


@pytest.fixture(scope="module", params=BACKBONES)
def codec(request: pytest.FixtureRequest) -> Codec:
    return build(BACKBONES[request.param])


@pytest.fixture(scope="module")
def golden() -> Codec:
    return regicomp.load(GOLDEN / "codec.safetensors")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 33), (65, 127)])
def test_any_size_decodes_to_the_encoder_s_reconstruction(codec: Codec, width: int, height: int) -> None:
    pixels = draw(width, height)
    decoded = codec.decompress(codec.compress(pixels), "array")
    assert np.array_equal(decoded, to_pixels(codec.reconstruct(pixels)[0]))


def test_every_symbol_passes_the_guard(codec: Codec) -> None:
    """Else the latents' checksum and the padding of streams would miss some."""
    with range_coder.watched() as tally:
        data = codec.encode(draw(64, 64))
    streams = bitstream.unpack(data).streams
    assert len(codec._layout().shapes) == 2
    with torch.inference_mode(), range_coder.watched() as tally:
        codec.network.compress(torch.rand(1, 3, 64, 128))
    assert len(tally.encoded) == len(streams)


def test_a_damaged_stream_is_refused_whatever_the_checksum_says(codec: Codec) -> None:
    data = codec.encode(draw(100, 60))
    container, right = bitstream.unpack(data), codec.decode(data)
    rng = np.random.default_rng(0)
    refused = 0
    for k in range(12):
        streams = [bytearray(s) for s in container.streams]
        damaged = streams[k % len(streams)]
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        try:
            decoded = codec.decode(bitstream.pack(container._replace(streams=tuple(map(bytes, streams)))))
        except ValueError:
            refused += 1
        else:  # the bit was one that no symbol depends on
            assert torch.equal(decoded, right)
    assert refused >= 6


def test_threads_and_order_do_not_change_a_picture(codec: Codec) -> None:
    pictures = [draw(130, 100, k) for k in range(2)]
    files = [codec.encode(p) for p in pictures]
    decoded = [codec.decode(data) for data in files]
    threads = torch.get_num_threads()
    try:
        for count in (2, 3, 8):
            torch.set_num_threads(count)
            for k in (1, 0):
                assert torch.equal(codec.decode(files[k]), decoded[k])
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert [codec.encode(p) for p in reversed(pictures)] == files[::-1]


def test_a_file_of_several_threads_decodes_with_one(codec: Codec) -> None:
    pixels = draw(130, 100)
    several = Codec(Loaded(codec.network, BACKBONES["hyperprior"], {}, bytes(range(32))), threads=4)
    data = several.encode(pixels)
    assert bitstream.unpack(data).threads == 4
    assert np.array_equal(to_pixels(codec.decode(data)), to_pixels(several.reconstruct(pixels)[0]))


def test_forms_of_a_picture_agree(golden: Codec) -> None:
    pixels = draw(40, 30)
    data = golden.compress(pixels)
    assert golden.compress(Image.fromarray(pixels)) == data
    assert golden.compress(to_tensor(pixels)) == data
    assert golden.compress(to_tensor(pixels)[0]) == data
    image = golden.decompress(data)
    assert (image.mode, image.size) == ("RGB", (40, 30))
    array, tensor = golden.decompress(data, "array"), golden.decompress(data, "tensor")
    assert np.array_equal(array, np.asarray(image))
    assert tensor.shape == (3, 30, 40)
    assert np.array_equal(to_pixels(tensor[None]), array)
    assert torch.equal(tensor[None], golden.decode(data))
    assert data == golden.encode(pixels)


def test_bytes_of_every_type_decode_and_other_types_are_refused(golden: Codec, tmp_path: Path) -> None:
    data = golden.compress(draw(40, 30))
    right = golden.decompress(data, "array")
    for held in (bytearray(data), memoryview(data), memoryview(b"x" + data + b"x")[1:-1]):
        assert np.array_equal(golden.decompress(held, "array"), right)
        assert torch.equal(golden.decode(held), golden.decode(data))
    for wrong in (tmp_path / "a.rgc", "a.rgc", None, list(data)):
        for take in (golden.decompress, golden.decode, bitstream.unpack, IsolatedDecoder("unused").decompress):
            with pytest.raises(TypeError, match=rf"`data` \(of type {type(wrong).__name__}\) must be .* bytes"):
                take(wrong)  # pyright: ignore
    for wrong in (tmp_path / "a.png", "a.png", data, None):
        with pytest.raises(TypeError, match=rf"`image` \(of type {type(wrong).__name__}\) must be a Pillow image"):
            golden.compress(wrong)  # pyright: ignore


def test_grey_alpha_and_profile_come_back(golden: Codec) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    alpha = draw(33, 17)[..., 0]
    rgba = Image.fromarray(np.dstack([draw(33, 17), alpha]))
    rgba.info["icc_profile"] = profile
    back = golden.decompress(golden.compress(rgba))
    assert back.mode == "RGBA"
    assert np.array_equal(np.asarray(back)[..., 3], alpha)
    assert back.info["icc_profile"] == profile
    assert golden.decompress(golden.compress(rgba), "tensor").shape == (4, 17, 33)
    grey = golden.decompress(golden.compress(alpha))
    assert (grey.mode, grey.size) == ("L", (33, 17))
    assert golden.decompress(golden.compress(alpha), "array").shape == (17, 33)


def test_what_lies_beside_the_latents_cannot_be_altered_either(golden: Codec) -> None:
    rgba = np.dstack([draw(33, 17), draw(33, 17)[..., 0]])
    container = bitstream.unpack(golden.compress(rgba))
    for changes in (
        {"width": 32},
        {"grey": True},
        {"alpha": None},
        {"tile": 256},
        {"profile": bitstream.deflate(b"a")},
    ):
        with pytest.raises(ValueError, match=r"latents are not those|its alpha has not the length"):
            golden.decompress(bitstream.pack(container._replace(**changes)))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(2, 3, 8, 8),
        torch.rand(8, 8),
        torch.zeros(3, 8, 8).byte(),
        torch.rand(3, 8, 8) + 1,
        torch.zeros(3, 0, 8),
        torch.full((3, 8, 8), float("nan")),
    ],
)
def test_other_tensors_are_refused(golden: Codec, tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="a tensor"):
        golden.compress(tensor)


def test_a_flat_picture_of_many_pixels_decodes(golden: Codec) -> None:
    """Its streams are shorter than the least length of a file; zeros fill it up."""
    pixels = np.full((700, 900, 3), 128, np.uint8)
    container = bitstream.unpack(golden.encode(pixels))
    longer = container._replace(width=60_000, height=700)
    assert (
        len(bitstream.pack(bitstream.long_enough(longer)))
        >= (bitstream.padded_area(60_000, 700) - bitstream.FREE_PIXELS) // bitstream.PIXELS_A_BYTE
    )
    padded = container._replace(streams=(*container.streams[:-1], container.streams[-1] + bytes(5000)), check=0)
    with pytest.raises(ValueError, match="latents are not those"):
        golden.decode(bitstream.pack(padded))  # the length is under the check
    assert np.array_equal(to_pixels(golden.decode(golden.encode(pixels))), to_pixels(golden.reconstruct(pixels)[0]))


def test_tiles_are_in_the_file_and_decode_to_the_reconstruction() -> None:
    codec = build(BACKBONES["hyperprior"], tile=256)
    pixels = draw(700, 300)
    data = codec.encode(pixels)
    assert bitstream.unpack(data).tile == 256
    assert np.array_equal(to_pixels(codec.decode(data)), to_pixels(codec.reconstruct(pixels)[0]))
    whole = build(BACKBONES["hyperprior"])
    assert torch.equal(whole.decode(data), codec.decode(data))  # decoding takes what the file says
    assert float((whole.decode(whole.encode(pixels)) - codec.decode(data)).abs().max()) < 1e-4


def test_bf16_transforms_lose_little() -> None:
    pixels = draw(200, 130)
    rough, exact = (build(BACKBONES["hyperprior"], precision=p) for p in ("bf16", "float32"))
    for encoder in (rough, exact):
        data = encoder.encode(pixels)
        difference = rough.decode(data) - exact.decode(data)
        assert 0 < float(difference.abs().max()) < 0.02


def test_settings_are_checked(golden: Codec) -> None:
    with pytest.raises(ValueError, match=r"`tile` \(=100\)"):
        regicomp.load(GOLDEN / "codec.safetensors", tile=100)
    with pytest.raises(ValueError, match=r"`threads` \(=3\)"):
        regicomp.load(GOLDEN / "codec.safetensors", threads=3)
    with pytest.raises(ValueError, match=r"`max_pixels` \(=0\)"):
        regicomp.load(GOLDEN / "codec.safetensors", max_pixels=0)
    with pytest.raises(ValueError, match=r"`as_` \(=png\)"):
        golden.decompress(b"", "png")  # pyright: ignore
    small = regicomp.load(GOLDEN / "codec.safetensors", max_pixels=100)
    with pytest.raises(ValueError, match=r"more than `max_pixels` \(=100\)"):
        small.compress(draw(20, 20))
    with pytest.raises(ValueError, match=r"more than `max_pixels` \(=100\)"):
        small.decode(golden.encode(draw(20, 20)))


def test_importing_is_cheap() -> None:
    code = "import sys, regicomp; print('torch' in sys.modules, callable(regicomp.load))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "True"]


def test_importing_silences_what_a_user_cannot_mend() -> None:
    """CompressAI scripts a helper, which torch deprecates, when a codec is first loaded."""
    warn = "warnings.warn('`torch.jit.script` is deprecated. Please switch', FutureWarning)"
    code = f"import warnings, regicomp; {warn}; warnings.warn('another', FutureWarning)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert "another" in told
    assert "jit" not in told
