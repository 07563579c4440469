"""A codec as people use it: pictures in, bytes out, and back."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from regicomp.backbone import variable_rate
from regicomp.data.images import Pixels
from regicomp.entropy_coding import range_coder
from regicomp.image_codec import container as bitstream
from regicomp.image_codec import picture
from regicomp.image_codec.container import Container
from regicomp.image_codec.model_file import Loaded
from regicomp.image_codec.picture import Picture
from regicomp.image_codec.tiling import Transforms
from regicomp.objective.rate_distortion import rate_bpp

AUTO_TILE = 1024  # pixels
_LEAST_TILE = 256

Form = Literal["image", "array", "tensor"]
Bytes = bytes | bytearray | memoryview


def to_tensor(pixels: Pixels) -> Tensor:
    """8-bit (H, W, 3) -> float32 in [0, 1], (1, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float() / 255


def to_pixels(image: Tensor) -> Pixels:
    """[0, 1], (1, 3, H, W) -> 8-bit (H, W, 3), clamped and rounded."""
    levels = (image[0].clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.permute(1, 2, 0).cpu().numpy()


class _Layout(NamedTuple):
    """The layout of a codec's `compress`, found with two small images, so that files need not store it.

    A number of `shape` is a constant or counts strides along the height or the width.
    """

    strings: Any  # of 2 by 1 strides, nested as `decompress` takes them
    shapes: tuple[Any, Any]  # of 2 by 1 and of 1 by 2 strides
    symbols: int  # of two strides


def _flat(strings: Any) -> list[bytes]:
    if isinstance(strings, bytes):
        return [strings]
    return [stream for inner in strings for stream in _flat(inner)]


def _nested(like: Any, streams: Iterator[bytes]) -> Any:
    if isinstance(like, bytes):
        return next(streams)
    return [_nested(inner, streams) for inner in like]


def _shape(tall: Any, wide: Any, rows: int, columns: int) -> Any:
    """The shape of a picture of rows x columns strides, from those of 2x1 and of 1x2."""
    if isinstance(tall, dict):
        return {key: _shape(tall[key], wide[key], rows, columns) for key in tall}
    if isinstance(tall, list | tuple):
        inner = [_shape(t, w, rows, columns) for t, w in zip(tall, wide, strict=True)]
        return tuple(inner) if isinstance(tall, tuple) else inner
    if tall == wide:
        return tall
    if tall == 2 * wide:
        return wide * rows
    if wide == 2 * tall:
        return tall * columns
    raise ValueError("the codec's `compress` gives a `shape` that does not follow from the size of the image")


class Codec:
    """A loaded codec; images of any size are padded to the network's stride and cropped back.

    Args:
        loaded: network and fingerprint, from `export.load_codec`.
        precision: of g_a and g_s: "float32", "bf16", or "auto" for bf16 where the hardware is fast at it.
        tile: side in pixels of the tiles that g_a and g_s are computed in, a multiple of 64; None: the whole image
            up to 4,194,304 pixels and tiles of 1024 above.
        max_pixels: larger pictures are refused.
        device: where the network runs.
        threads: that encoding computes with, 1, 2, 4 or 8; None: as PyTorch is set, rounded down to one of these.
            Decoding takes the file's number.

    Not to be used from several threads at once, for the number of threads is the process's.

    Raises:
        ValueError: a setting is out of range, or the codec's entropy tables are malformed.
    """

    def __init__(
        self,
        loaded: Loaded,
        precision: str = "float32",
        tile: int | None = None,
        max_pixels: int = bitstream.MAX_PIXELS,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        if tile is not None and (not _LEAST_TILE <= tile <= bitstream.MAX_TILE or tile % bitstream.TILE_UNIT):
            raise ValueError(
                f"`tile` (={tile}) must be a multiple of {bitstream.TILE_UNIT}, {_LEAST_TILE} to {bitstream.MAX_TILE}"
            )
        if threads is not None and threads not in bitstream.THREADS:
            raise ValueError(f"`threads` (={threads}) must be one of {', '.join(map(str, bitstream.THREADS))}")
        if max_pixels < 1:
            raise ValueError(f"`max_pixels` (={max_pixels}) must be at least 1")
        self.network: Any = loaded.network.to(device)
        self.fingerprint = loaded.fingerprint
        self.stride = int(getattr(self.network, "downsampling_factor", 64))
        self.max_pixels = max_pixels
        self._device, self._tile, self._threads = torch.device(device), tile, threads
        self._transforms = Transforms(self.network, self.stride, precision)
        self._gains = variable_rate.gains_of(self.network)
        self._escape_bits = range_coder.guard(self.network)
        self._known_layout: _Layout | None = None

    def pad(self, x: Tensor) -> Tensor:
        """Replicate the right and lower edge up to a multiple of the stride, (1, 3, H, W)."""
        height, width = x.shape[-2:]
        return F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")

    @property
    def levels(self) -> int | None:
        """Quality goes from 1 to so many; None where the codec has but one."""
        return None if self._gains is None else self._gains.levels

    @property
    def lambdas(self) -> tuple[float, ...]:
        """λ of the levels; none where the codec has but one quality."""
        return () if self._gains is None else tuple(self._gains.lambdas.tolist())

    def encode(self, pixels: Pixels, quality: float | None = None) -> bytes:
        """Compress an 8-bit image (H, W, 3) to a container; `quality` as in `compress`."""
        return self._encode(to_tensor(pixels), quality)

    def compress(self, image: Image.Image | NDArray[Any] | Tensor | Picture, quality: float | None = None) -> bytes:
        """Compress a picture to a container.

        Args:
            image: a Pillow image; an 8-bit array, (H, W), (H, W, 3) or (H, W, 4); a tensor in [0, 1], (3, H, W) or
                (1, 3, H, W). Grey stays grey, alpha and an ICC profile are kept without loss.
            quality: of a codec of variable rate, from 1 to `levels`, any number, which is rounded to thousandths;
                None: the middle one.

        Raises:
            ValueError: the picture is refused, see `regicomp.image_codec.picture`, or the quality is.
            TypeError: `image` is none of these, such as a file's path.
        """
        if isinstance(image, Tensor):
            return self._encode(self._checked(image), quality)
        if isinstance(image, np.ndarray):
            image = picture.from_array(image, self.max_pixels)
        elif isinstance(image, Image.Image):
            image = picture.from_pillow(image, self.max_pixels)
        elif not isinstance(image, Picture):
            raise TypeError(
                f"`image` (of type {type(image).__name__}) must be a Pillow image, an array, a tensor or a Picture; "
                "PIL.Image.open(…) or regicomp.image_codec.picture.read(…) reads a file"
            )
        return self._encode(to_tensor(image.pixels), quality, image.grey, image.alpha, image.profile)

    def decode(self, data: Bytes) -> Tensor:
        """Decompress a container to float32 in [0, 1], (1, 3, H, W).

        Raises:
            ValueError: the container is altered or another codec's.
            TypeError: `data` holds no bytes.
        """
        return self._decode(bitstream.unpack(data, self.max_pixels)).cpu()

    @overload
    def decompress(self, data: Bytes, as_: Literal["image"] = "image") -> Image.Image: ...
    @overload
    def decompress(self, data: Bytes, as_: Literal["array"]) -> Pixels: ...
    @overload
    def decompress(self, data: Bytes, as_: Literal["tensor"]) -> Tensor: ...
    def decompress(self, data: Bytes, as_: Form = "image") -> Image.Image | Pixels | Tensor:
        """Decompress a container.

        Args:
            data: what `compress` gave.
            as_: "image": a Pillow image of mode L, LA, RGB or RGBA with its ICC profile; "array": that image as an
                8-bit array; "tensor": before rounding, in [0, 1], (3, H, W), or (4, H, W) where there is alpha.

        Raises:
            ValueError: the container is altered or another codec's.
            TypeError: `data` holds no bytes.
        """
        if as_ not in ("image", "array", "tensor"):
            raise ValueError(f"`as_` (={as_}) must be image, array or tensor")
        x_hat, apart = self._decompress(data)
        if as_ == "tensor":
            channels = [x_hat[0].clamp(0, 1)]
            if apart.alpha is not None:
                channels.append(torch.from_numpy(apart.alpha)[None].float() / 255)
            return torch.cat(channels)
        image = picture.to_pillow(apart)
        return image if as_ == "image" else np.array(image)

    def decompress_picture(self, data: Bytes) -> Picture:
        """Decompress a container to a picture taken apart; see `decompress`."""
        return self._decompress(data)[1]

    def _decompress(self, data: Bytes) -> tuple[Tensor, Picture]:
        container = bitstream.unpack(data, self.max_pixels)
        bitstream.check_codec(container, self.fingerprint)
        # Before the codec's work, for what is malformed here costs nothing yet.
        alpha = profile = None
        if container.alpha is not None:
            alpha = picture.unpack_alpha(container.alpha, container.width, container.height)
        if container.profile is not None:
            profile = bitstream.inflate(container.profile, bitstream.MAX_PROFILE, "ICC profile")
        x_hat = self._decode(container).cpu()
        return x_hat, Picture(to_pixels(x_hat), container.grey, alpha, profile)

    def reconstruct(self, pixels: Pixels, quality: float | None = None) -> tuple[Tensor, float]:
        """The encoder's own reconstruction, (1, 3, H, W) in [0, 1], and the estimated bits per pixel.

        `quality` as in `compress`.
        """
        height, width = pixels.shape[:2]
        with (
            torch.inference_mode(),
            _threads(self._count()),
            self._transforms.use(self._tile_of(width, height)),
            self._at(self._thousandths(quality)),
        ):
            out = self.network(self.pad(to_tensor(pixels).to(self._device)))
        rate = float(rate_bpp(out["likelihoods"].values(), height * width))
        return out["x_hat"].clamp(0, 1)[..., :height, :width].cpu(), rate

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Within the block, nothing of one image is computed twice by `encode`, `decode` and `reconstruct`."""
        walks = self.network.remembering() if hasattr(self.network, "remembering") else contextlib.nullcontext()
        with self._transforms.remembering(), walks:
            yield

    def _checked(self, x: Tensor) -> Tensor:
        batch = x if x.dim() == 4 else x[None]
        if batch.dim() != 4 or tuple(batch.shape[:2]) != (1, 3) or not batch.numel() or not x.is_floating_point():
            raise ValueError(f"a tensor (of {x.dtype}, {tuple(x.shape)}) must be float, (3, H, W) or (1, 3, H, W)")
        if not (float(batch.min()) >= 0 and float(batch.max()) <= 1):
            raise ValueError(f"a tensor (from {float(batch.min()):g} to {float(batch.max()):g}) must lie in [0, 1]")
        return batch.float()

    def _count(self) -> int:
        """Threads that encoding computes with."""
        return self._threads or max(n for n in bitstream.THREADS if n <= torch.get_num_threads())

    def _tile_of(self, width: int, height: int) -> int:
        if self._tile is not None:
            whole = max(width, height) <= self._tile
            return 0 if whole else self._tile
        return AUTO_TILE if bitstream.padded_area(width, height) > bitstream.WHOLE_PIXELS else 0

    def _thousandths(self, quality: float | None) -> int | None:
        """The quality as a file names it."""
        if self._gains is None:
            if quality is not None:
                raise ValueError(f"`quality` (={quality}) must be left out: this codec has one quality only")
            return None
        middle = (1 + self._gains.levels) / 2
        return round(self._gains.check(middle if quality is None else quality) * bitstream.QUALITY_UNIT)

    def _at(self, thousandths: int | None) -> contextlib.AbstractContextManager[None]:
        """Within it, the network codes at this quality."""
        quality = None if thousandths is None else thousandths / bitstream.QUALITY_UNIT
        return variable_rate.at_quality(self.network, quality)

    def _encode(
        self,
        x: Tensor,
        quality: float | None = None,
        grey: bool = False,
        alpha: NDArray[np.uint8] | None = None,
        profile: bytes | None = None,
    ) -> bytes:
        height, width = x.shape[-2:]
        if width * height > self.max_pixels or max(width, height) > bitstream.MAX_SIDE:
            raise ValueError(f"the picture has {width}x{height} pixels, more than `max_pixels` (={self.max_pixels})")
        layout, tile, threads = self._layout(), self._tile_of(width, height), self._count()
        level = self._thousandths(quality)
        with (
            torch.inference_mode(),
            _threads(threads),
            self._transforms.use(tile),
            self._at(level),
            range_coder.watched() as tally,
        ):
            coded = self.network.compress(self.pad(x.to(self._device)))
        if _plain(coded["shape"]) != _plain(_shape(*layout.shapes, *self._strides(width, height))):
            raise ValueError("the codec's `compress` gives a `shape` that does not follow from the size of the image")
        container = Container(
            self.fingerprint[: bitstream.FINGERPRINT_BYTES],
            width,
            height,
            grey,
            tile,
            threads,
            None if alpha is None else picture.pack_alpha(alpha),
            None if profile is None else bitstream.deflate(profile),
            tuple(_flat(coded["strings"])),
            quality=level,
        )
        container = bitstream.long_enough(container)
        return bitstream.pack(container._replace(check=bitstream.content_check(container, tally.encoded)))

    def _decode(self, container: Container) -> Tensor:
        """(1, 3, H, W) in [0, 1], on the codec's device."""
        bitstream.check_codec(container, self.fingerprint)
        layout = self._layout()
        rows, columns = self._strides(container.width, container.height)
        if len(container.streams) != len(_flat(layout.strings)):
            raise ValueError(f"the file is malformed: it holds {len(container.streams)} streams, not this codec's")
        symbols = math.ceil(layout.symbols * rows * columns / 2)
        strings = _nested(layout.strings, iter(container.streams))
        with (
            torch.inference_mode(),
            _threads(container.threads),
            self._transforms.use(container.tile),
            self._at(container.quality),
            range_coder.watched(symbols, self._escape_bits) as tally,
            _malformed(),
        ):
            x_hat = self.network.decompress(strings, _shape(*layout.shapes, rows, columns))["x_hat"]
        if bitstream.content_check(container, tally.decoded) != container.check:
            raise ValueError(
                "the decoded latents are not those that were encoded: the file is altered, or this machine computes "
                "the entropy model differently from the one that encoded it"
            )
        x_hat = x_hat[..., : container.height, : container.width]
        return x_hat.mean(1, keepdim=True).expand_as(x_hat) if container.grey else x_hat

    def _strides(self, width: int, height: int) -> tuple[int, int]:
        return -(-height // self.stride), -(-width // self.stride)

    def _layout(self) -> _Layout:
        if self._known_layout is None:
            with torch.inference_mode(), range_coder.watched() as tally:
                tall, wide = (
                    self.network.compress(torch.zeros(1, 3, rows * self.stride, columns * self.stride).to(self._device))
                    for rows, columns in ((2, 1), (1, 2))
                )
            self._known_layout = _Layout(tall["strings"], (tall["shape"], wide["shape"]), tally.symbols // 2)
        return self._known_layout


def _plain(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {key: _plain(value) for key, value in shape.items()}
    return [_plain(value) for value in shape] if isinstance(shape, list | tuple) else shape


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with `count` threads, however many there are.

    Libraries split sums among threads, so that another number of them changes last bits: here and there a pixel, or,
    in the entropy model, everything.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _malformed() -> Iterator[None]:
    """Turn a network's errors about latents that no encoder made into a ValueError."""
    try:
        yield
    except (RuntimeError, AssertionError, IndexError, OverflowError) as error:
        raise ValueError(f"the file cannot be decoded: {error or type(error).__name__}") from error
