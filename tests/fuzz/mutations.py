"""Damaged and crafted files made of good ones.

Run as a program it decodes many of them and prints what came of each kind: `make fuzz`.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import resource
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from regicomp.image_codec import container as bitstream
from regicomp.image_codec.container import Container
from regicomp.utils import cli

GOLDEN = Path(__file__).parents[1] / "golden"
SECONDS = 10.0  # a file may take
GROWTH_BYTES = 1 << 30  # of the process, over all files


class Case(NamedTuple):
    """A file to be decoded."""

    kind: str
    data: bytes
    origin: str  # the good file's name


def _flipped(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8, 64))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _cut(rng: random.Random, data: bytes) -> bytes:
    keep = rng.randrange(len(data))
    return data[:keep] if rng.random() < 0.7 else data[:keep] + data[keep + rng.randrange(1, 40) :]


def _grown(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 4, 100, 5000))) + data[at:]


def _swapped(rng: random.Random, data: bytes) -> bytes:
    container = bitstream.unpack(data)
    streams = list(container.streams)
    rng.shuffle(streams)
    if streams == list(container.streams):
        streams.reverse()
    return bitstream.pack(container._replace(streams=tuple(streams)))


def _number(rng: random.Random) -> int:
    return rng.choice((0, 1, 2, 63, 64, 65, 127, 128, 2**14, 2**20, 2**21, 2**31, 2**35 - 1, rng.randrange(2000)))


def _resized(rng: random.Random, data: bytes) -> bytes:
    container = bitstream.unpack(data)
    changes: dict[str, Any] = {
        "width": _number(rng),
        "height": _number(rng),
        "tile": 64 * rng.choice((0, 1, 2, 16, 32, 33, 2**20)),
    }
    chosen = rng.sample(list(changes), rng.randint(1, 3))
    return bitstream.pack(container._replace(**{key: changes[key] for key in chosen}))


def _sealed(data: bytes) -> bytes:
    """With the checksum of what it holds."""
    body = data[8:]
    return data[:4] + zlib.crc32(body).to_bytes(4, "big") + body


def _resealed(rng: random.Random, data: bytes) -> bytes:
    """Damaged behind the checksum, which is recomputed: streams, header, or both."""
    ways = (_flipped, _cut, _grown, _resized, _swapped, _crafted)
    return _sealed(data[:8] + rng.choice(ways)(rng, data)[8:])


def _crafted(rng: random.Random, data: bytes) -> bytes:
    """Streams that the range decoder reads longest from: ones, zeros, noise."""
    container = bitstream.unpack(data)
    streams = list(container.streams)
    state = rng.choice((b"\xff" * 7 + b"\x7f", (1 << 31).to_bytes(8, "little"), rng.randbytes(7) + b"\x3f"))
    body = rng.choice((b"", b"\xff" * rng.randrange(2000), bytes(rng.randrange(2000)), rng.randbytes(300)))
    streams[rng.randrange(len(streams))] = state + body
    return bitstream.pack(container._replace(streams=tuple(streams)))


DAMAGE: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "bits flipped": _flipped,
    "cut": _cut,
    "grown": _grown,
    "streams swapped": _swapped,
    "sizes changed": _resized,
    "resealed": _resealed,
    "forged": _resealed,
}
"""`resealed` has a right checksum of the file; `forged` has that and a right content check too."""


def cases(count: int, resealed: int, forged: int, seed: int = 0) -> Iterator[Case]:
    """`count` damaged files, `resealed` of them resealed, and `forged` ones besides."""
    rng = random.Random(seed)
    good = {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.rgc"))}
    names = [name for name in good for _ in range(1 if name == "tiles" else 5)]
    plain = [kind for kind in DAMAGE if kind not in ("resealed", "forged")]
    kinds = ["resealed"] * resealed + ["forged"] * forged
    kinds += [plain[k % len(plain)] for k in range(count - resealed)]
    rng.shuffle(kinds)
    for kind in kinds:
        origin = rng.choice(names)
        yield Case(kind, DAMAGE[kind](rng, good[origin]), origin)


class Outcome(NamedTuple):
    """The outcome of decoding a file."""

    kind: str
    result: str  # refused, right, or wrong: another picture was decoded without a word
    seconds: float


class Fuzzer:
    """Decodes damaged files with the golden codec that made them."""

    def __init__(self) -> None:
        import regicomp

        of_one_rate, of_levels = (regicomp.load(GOLDEN / f"{name}.safetensors") for name in ("codec", "codec_levels"))
        files = {path.stem: path.read_bytes() for path in GOLDEN.glob("*.rgc")}
        self._codecs = {name: of_levels if name == "level" else of_one_rate for name in files}
        self._right = {name: self._codecs[name].decompress(data, "array") for name, data in files.items()}

    def run(self, case: Case) -> Outcome:
        """Decode one.

        Raises:
            Exception: anything but a ValueError of one line came out of the decoder.
        """
        codec = self._codecs[case.origin]
        data = self._forge(codec, case.data) if case.kind == "forged" else case.data
        started = time.perf_counter()
        try:
            decoded = codec.decompress(data, "array")
        except ValueError as error:
            if not str(error):
                raise
            result = "refused"
        else:
            result = "right" if np.array_equal(decoded, self._right[case.origin]) else "wrong"
        return Outcome(case.kind, result, time.perf_counter() - started)

    def _forge(self, codec: Any, data: bytes) -> bytes:
        """The file with the content check that its decoder will find, as an attacker with the codec can make it."""
        found: list[Container] = []
        check = bitstream.content_check

        def told(container: Container, symbols: Any) -> int:
            found.append(container._replace(check=check(container, symbols)))
            return found[-1].check

        bitstream.content_check = told
        try:
            codec.decompress(data)
        except ValueError:
            pass
        finally:
            bitstream.content_check = check
        return bitstream.pack(found[-1]) if found else data


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Entry point; exit status 1 where a file was decoded to another picture, or took too long or too much memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--resealed", type=int, default=2_000)
    parser.add_argument("--forged", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    cli.quiet_libraries()
    from tqdm import tqdm

    fuzzer = Fuzzer()
    before = _peak_bytes()
    total = args.files + args.forged
    outcomes = [
        fuzzer.run(case)
        for case in tqdm(
            cases(args.files, args.resealed, args.forged, args.seed),
            total=total,
            unit="file",
            leave=False,
            disable=None,
        )
    ]
    growth = _peak_bytes() - before
    print("| kind | files | refused | right picture | another picture | slowest, s |\n|---|---|---|---|---|---|")
    for kind in DAMAGE:
        mine = [o for o in outcomes if o.kind == kind]
        if mine:
            results = [sum(o.result == r for o in mine) for r in ("refused", "right", "wrong")]
            cells = (kind, len(mine), *results, f"{max(o.seconds for o in mine):.2f}")
            print("| " + " | ".join(map(str, cells)) + " |")
    print(f"peak memory grew by {growth / 2**20:.0f} MiB")
    wrong = any(o.result == "wrong" and o.kind != "forged" for o in outcomes)
    slow = max(o.seconds for o in outcomes) > SECONDS
    sys.exit(int(wrong or slow or growth > GROWTH_BYTES))


if __name__ == "__main__":
    main()
