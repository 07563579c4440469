"""Packing training images into shards."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from tqdm import tqdm

from regicomp.data import images
from regicomp.data import shard_reader as reading
from regicomp.data.images import BadImage
from regicomp.utils import files
from regicomp.utils.pool import process_pool

_PLAN = "plan.json"


class Settings(NamedTuple):
    """How images are packed."""

    format: str  # "original": the files' own bytes; "png": decoded, upright, 8-bit RGB
    skip: bool  # leave bad images out rather than stop at the first
    verify: bool  # decode every image before it is packed


class Outcome(NamedTuple):
    """One finished shard."""

    file: str
    bytes: int
    images: int
    bad: list[tuple[str, str]]  # kind, message
    noted: dict[str, int]


def plan(paths: Sequence[Path], shard_bytes: int) -> list[list[int]]:
    """Indices of the images of each shard: in order, as many as fit into `shard_bytes` of their own files."""
    shards: list[list[int]] = []
    filled = shard_bytes
    for index, path in enumerate(paths):
        size = path.stat().st_size
        if not shards or (shards[-1] and filled + size > shard_bytes):
            shards.append([])
            filled = 0
        shards[-1].append(index)
        filled += size
    return shards


def _content(path: Path, settings: Settings) -> tuple[bytes, str, int, int]:
    """The stored form of an image: bytes, extension, width, height as decoded."""
    header = images.header(path)
    if settings.format == "original":
        data = path.read_bytes()
        if settings.verify:
            height, width = images.decode(data, path).shape[:2]
            return data, path.suffix.lower()[1:], width, height
        return data, path.suffix.lower()[1:], header.width, header.height
    pixels = images.read(path)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue(), "png", pixels.shape[1], pixels.shape[0]


def _make(job: tuple[int, list[int]], paths: Sequence[Path], src: Path, folder: Path, settings: Settings) -> Outcome:
    """Write one shard and its offset table, whole or not at all; runs in a process of its own."""
    from webdataset.writer import TarWriter

    number, indices = job
    target = folder / f"shard-{number:06d}.tar"
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    bad: list[tuple[str, str]] = []
    noted: Counter[str] = Counter()

    def write(file: Any) -> None:
        # A fixed time and owner: the same images make the same bytes.
        with TarWriter(file, encoder=False, mtime=0, user="", group="") as writer:
            for index in indices:
                path = paths[index]
                try:
                    noted.update(images.header(path).noted)
                    data, suffix, width, height = _content(path, settings)
                except BadImage as error:
                    if not settings.skip:
                        raise
                    bad.append((error.kind, str(error)))
                    continue
                writer.write({"__key__": f"{index:09d}", suffix: data})
                names.append(path.relative_to(src).as_posix())
                sizes.append((width, height))

    files.write_atomically(target, write)
    with tarfile.open(target) as tar:  # offsets from the file as it is on the disk
        rows = [[m.offset_data, m.size, *size] for m, size in zip(tar.getmembers(), sizes, strict=True)]
    outcome = Outcome(target.name, target.stat().st_size, len(rows), bad, dict(noted))
    table = {"images": rows, "names": names, "outcome": outcome._asdict()}
    files.write_bytes(target.with_suffix(".json"), json.dumps(table, separators=(",", ":")).encode())
    return outcome


def _finished(folder: Path, number: int) -> Outcome | None:
    """The outcome of a shard that an earlier start finished: its table is written after it."""
    target = folder / f"shard-{number:06d}.tar"
    try:
        table = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
        outcome = Outcome(**table["outcome"])
        return outcome if target.stat().st_size == outcome.bytes else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_plan(folder: Path, paths: Sequence[Path], src: Path, shard_bytes: int, settings: Settings) -> None:
    """Record what is being packed, or check that it is what an earlier start recorded.

    Raises:
        ValueError: `folder` holds shards of other images or settings.
    """
    listing = hashlib.sha256()
    for path in paths:
        stat = path.stat()
        listing.update(f"{path.relative_to(src).as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    wanted = {"images": len(paths), "listing": listing.hexdigest(), "shard_bytes": shard_bytes, **settings._asdict()}
    path = folder / _PLAN
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(key for key in wanted if known.get(key) != wanted[key])
        if changed:
            raise ValueError(
                f"`DST` (={folder}) holds shards made from other images or settings ({', '.join(changed)} changed); "
                "give another folder, or remove it"
            )
    elif any(folder.glob("*")):
        raise ValueError(f"`DST` (={folder}) must be a new or empty folder, or one that this command began to fill")
    else:
        files.write_json(path, wanted)


def _check_space(folder: Path, paths: Sequence[Path], settings: Settings) -> None:
    need = int(sum(path.stat().st_size for path in paths) * 1.01) + 2**20
    free = shutil.disk_usage(folder).free
    if settings.format == "original" and need > free:
        raise ValueError(f"`DST` (={folder}) has {free / 2**20:.0f} MB free; the shards need {need / 2**20:.0f} MB")


def prepare(src: Path, folder: Path, shard_bytes: int, settings: Settings, jobs: int) -> list[Outcome]:
    """Pack the images below `src` into shards in `folder`; what an earlier start finished is kept.

    Raises:
        ValueError: no images, no usable image, a bad image where none is to be skipped, or `folder` is in use.
        OSError: the disk is full.
    """
    paths = images.find(src)
    folder.mkdir(parents=True, exist_ok=True)
    _check_plan(folder, paths, src, shard_bytes, settings)
    shards = plan(paths, shard_bytes)
    done = {number: outcome for number in range(len(shards)) if (outcome := _finished(folder, number))}
    todo = [(number, indices) for number, indices in enumerate(shards) if number not in done]
    if todo:
        _check_space(folder, [paths[index] for _, indices in todo for index in indices], settings)
    make = partial(_make, paths=paths, src=src, folder=folder, settings=settings)
    bar = tqdm(total=len(paths), initial=sum(len(shards[n]) for n in done), desc="packing", unit="image")
    with bar, process_pool(jobs) as processes:
        for job, outcome in zip(todo, processes.map(make, todo), strict=True):
            done[job[0]] = outcome
            bar.update(len(job[1]))
    outcomes = [done[number] for number in range(len(shards))]
    total = sum(outcome.images for outcome in outcomes)
    if not total:
        raise ValueError(f"none of the {len(paths)} images below `SRC` (={src}) is usable: {outcomes[0].bad[0][1]}")
    files.write_json(
        folder / reading.INDEX,
        {
            "format": reading.FORMAT,
            "schema": reading.SCHEMA,
            "stored": settings.format,
            "images": total,
            "shards": [{"file": o.file, "bytes": o.bytes, "images": o.images} for o in outcomes],
        },
    )
    return outcomes
