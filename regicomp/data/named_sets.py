"""Fetching a named set: download, verify, unpack."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from regicomp.data import download, manifest, unpack
from regicomp.data.download import Patience, Progress, Wanted
from regicomp.data.manifest import LOCK, Archive, File, Manifest
from regicomp.utils import files

_ROOM = 64 * 2**20  # bytes to leave free on the disk


_UNPACKED = 2  # a set's size over its archive's: PNG files hardly shrink in a zip


def _verified(files_: Sequence[File], folder: Path) -> list[str]:
    total = sum(file.bytes for file in files_)
    with tqdm(total=total, desc="verifying", unit="B", unit_scale=True, leave=False, delay=1) as bar:
        return manifest.faults(files_, folder, bar.update)


def _download(wanted: Sequence[Wanted], folder: Path, jobs: int, patience: Patience | None) -> None:
    """Fetch several files side by side; on a failure or Ctrl-C the others stop, and what arrived is kept.

    Raises:
        ValueError: a file cannot be had, or is not what is recorded; the message of the first.
    """
    total = sum(item.bytes or 0 for item in wanted) if all(item.bytes for item in wanted) else None
    stop = threading.Event()
    with (
        tqdm(total=total, desc=folder.name, unit="B", unit_scale=True) as bar,
        ThreadPoolExecutor(jobs) as threads,
    ):
        progress = Progress(bar.update, lambda length: _expect(bar, length) if total is None else None)
        running = [threads.submit(download.fetch, item, progress, stop, patience) for item in wanted]
        try:
            for future in as_completed(running):
                future.result()
        except BaseException:
            stop.set()
            threads.shutdown(wait=True, cancel_futures=True)
            raise


def _expect(bar: tqdm, length: int) -> None:
    bar.total = length
    bar.refresh()


def _fetch_files(about: Manifest, folder: Path, mirror: str | None, jobs: int, patience: Patience | None) -> None:
    wrong = [f for f in about.files if manifest.faults([f], folder, lambda _: None)]
    wanted = [
        Wanted(
            folder / f.path,
            download.addresses(mirror, about.folder, f.path, (*about.urls, *f.urls)),
            f.bytes,
            f.sha256,
        )
        for f in wrong
    ]
    if any(not item.urls for item in wanted):
        raise ValueError(
            f"{about.name}: {len(wanted)} of {about.images} files are not in {folder}, and no public place holds them "
            f"as they are ({about.available_at}); put a copy there, or give `--mirror URL` with {about.folder}/ below "
            "it"
        )
    download.free_enough(folder, sum(f.bytes for f in wrong) + _ROOM)
    if wanted:
        _download(wanted, folder, jobs, patience)


def _fetch_archive(about: Manifest, folder: Path, mirror: str | None, patience: Patience | None) -> None:
    """Fetch and unpack an archive, and write the lock file that later checks compare the images with."""
    locked = manifest.known_files(about, folder)
    if locked and not _verified(locked, folder):
        return
    problems: list[str] = []
    for archive in about.archives:
        name = archive.url.rsplit("/", 1)[-1]
        target = folder / name
        urls = download.addresses(mirror, about.folder, name, (archive.url,))
        download.free_enough(folder, (1 + _UNPACKED) * (archive.bytes or 0) + _ROOM)
        try:
            _download([Wanted(target, urls, archive.bytes, archive.sha256)], folder, 1, patience)
            _unpack(about, archive, target, folder, locked)
            return
        except ValueError as error:
            problems.append(str(error))
    raise ValueError("; ".join(problems))


def _unpack(about: Manifest, archive: Archive, packed: Path, folder: Path, locked: Sequence[File]) -> None:
    size, digest = packed.stat().st_size, manifest.sha256_of(packed)
    try:
        paths = unpack.images(packed, archive.below, folder)
    finally:
        packed.unlink(missing_ok=True)
    if len(paths) != about.images:
        for path in paths:
            path.unlink()
        raise ValueError(f"{packed.name}: holds {len(paths)} images, expected the {about.images} of {about.name}")
    entries = [manifest.describe(folder, path) for path in paths]
    if locked:
        wrong = manifest.faults(locked, folder, lambda _: None)
        if wrong:
            raise ValueError(
                f"{wrong[0]} by {folder / LOCK}, written at the first fetch; remove it to trust the new files"
            )
        return
    files.write_json(
        folder / LOCK,
        {
            "set": about.name,
            "archive": {
                "url": archive.url,
                "bytes": size,
                "sha256": digest,
                "digest_known_before": bool(archive.sha256),
            },
            "files": [
                {"path": f.path, "bytes": f.bytes, "width": f.width, "height": f.height, "sha256": f.sha256}
                for f in entries
            ],
        },
    )
    if archive.sha256:
        print(f"{about.name}: the archive is the recorded one; its files' digests are now in {folder / LOCK}")
    else:
        print(
            f"{about.name}: no digest of this set is known beforehand; the archive's (SHA-256 {digest}) and its files' "
            f"were written to {folder / LOCK}, with which later checks compare the images"
        )


def _report(about: Manifest, folder: Path) -> bool:
    """Verify a set and print what is wrong; True if nothing is."""
    known = about.files or manifest.known_files(about, folder)
    if not known:
        print(f"{about.name}: {folder / LOCK} does not exist, so there is nothing to verify against: fetch it first")
        return False
    wrong = _verified(known, folder)
    for line in wrong:
        print(line)
    state = "verified" if not wrong else f"{len(wrong)} are wrong"
    size = sum(file.bytes for file in known)
    print(f"{about.name}: {len(known)} files, {size / 2**20:.1f} MB in {folder}: {state}")
    return not wrong


def fetch(
    name: str,
    root: Path,
    mirror: str | None = None,
    verify_only: bool = False,
    jobs: int = 4,
    patience: Patience | None = None,
) -> bool:
    """Fetch what is missing of a set, and verify all of it by SHA-256.

    Returns:
        Whether the set is whole; only `verify_only` returns False.

    Raises:
        ValueError: unknown name, no room, a file that cannot be had, or one that is not what is recorded.
        OSError: the disk is full or the folder cannot be written.
    """
    about = manifest.load(name)
    folder = root / about.folder
    if not verify_only:
        if about.files:
            _fetch_files(about, folder, mirror, jobs, patience)
        else:
            _fetch_archive(about, folder, mirror, patience)
    whole = _report(about, folder)
    if not verify_only:
        print(f"licence: {about.licence}\navailable at: {about.available_at}")
    return whole
