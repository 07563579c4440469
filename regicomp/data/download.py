"""One file over HTTP: resumed, retried, bounded, verified, and in place only when it is whole."""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from regicomp.data.manifest import sha256_of

_CHUNK = 1 << 16
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOST_BYTES = 4 * 2**30  # of a file whose size is not known beforehand
_LONGEST_WAIT = 30.0  # seconds between two attempts


class Wanted(NamedTuple):
    """A file to be fetched, with what is known of it."""

    target: Path
    urls: tuple[str, ...]  # tried in order
    bytes: int | None
    sha256: str | None


class Patience(NamedTuple):
    """Retries, waits and time limits of a download."""

    attempts: int = 5  # in a row without a single new byte
    wait: float = 1.0  # seconds before the second attempt, doubled before each further one
    timeout: float = 30.0  # seconds without a byte, after which a connection counts as lost
    resume: bool = True  # go on behind what has arrived


class Progress(NamedTuple):
    """Who is told of a transfer."""

    advance: Callable[[int], object]  # bytes that arrived; negative where they were thrown away
    expect: Callable[[int], object]  # length of the file, by the server


class _Refused(Exception):
    """The server will not give this file, whatever the attempts."""


def fetch(wanted: Wanted, progress: Progress, stop: threading.Event, patience: Patience | None = None) -> None:
    """Fetch one file from the first of its addresses that gives it.

    What has arrived stays beside the target as `.NAME.part` and is gone on with at the next attempt or start.

    Args:
        wanted: the file.
        progress: told what arrives.
        stop: ends the transfer at the next piece.
        patience: retries and waits.

    Raises:
        ValueError: what arrived is not what is recorded (it is removed), or no address gives the file.
        OSError: the disk is full.
    """
    patience = patience or Patience()
    wanted.target.parent.mkdir(parents=True, exist_ok=True)
    part = wanted.target.with_name(f".{wanted.target.name}.part")
    progress.advance(_size(part))
    problems: list[str] = []
    for url in wanted.urls:
        try:
            _fetch_from(url, wanted, part, progress, stop, patience)
            return
        except _Refused as error:
            problems.append(f"{wanted.target.name}: {error} [{url}]")
            if stop.is_set():
                break
    raise ValueError("; ".join(problems) or f"{wanted.target.name}: there is no address to fetch it from")


def _fetch_from(
    url: str, wanted: Wanted, part: Path, progress: Progress, stop: threading.Event, patience: Patience
) -> None:
    while True:
        resumed = _transfer(url, wanted, part, progress, stop, patience)
        fault = _fault(wanted, part)
        if fault is None:
            os.replace(part, wanted.target)
            _tag(part).unlink(missing_ok=True)
            return
        _discard(part, progress)
        # A file pieced together from several transfers may be wrong where a whole one is right: once more then.
        if not resumed or stop.is_set():
            raise _Refused(f"{fault}; what arrived was removed")
        patience = patience._replace(resume=False)


def _fault(wanted: Wanted, part: Path) -> str | None:
    size = part.stat().st_size
    if wanted.bytes is not None and size != wanted.bytes:
        return f"{size} bytes, expected {wanted.bytes}"
    if wanted.sha256 is not None and (digest := sha256_of(part)) != wanted.sha256:
        return f"SHA-256 is {digest}, expected {wanted.sha256}"
    return None


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _tag(part: Path) -> Path:
    """Where the server's name for this version of the file is kept, so that a resumed one is the same."""
    return part.with_name(part.name + ".etag")


def _discard(part: Path, progress: Progress) -> None:
    progress.advance(-_size(part))
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


def _transfer(
    url: str, wanted: Wanted, part: Path, progress: Progress, stop: threading.Event, patience: Patience
) -> bool:
    """Bring `part` to its full length; True if it is pieced together from several answers."""
    resumed = False
    failures = 0
    most = _size(part)
    while True:
        if stop.is_set():
            raise _Refused("stopped")
        if not patience.resume:
            _discard(part, progress)
        resumed = resumed or _size(part) > 0
        if wanted.bytes is not None and _size(part) == wanted.bytes:
            return resumed
        try:
            if _attempt(url, wanted, part, progress, stop, patience.timeout):
                return resumed
            problem = "the connection was cut"
        except urllib.error.HTTPError as error:
            problem = f"the server answers {error.code} {error.reason}"
            if error.code == 416:  # nothing lies behind what is here: it is too long, or of another version
                _discard(part, progress)
            elif error.code not in _PASSING:
                raise _Refused(problem) from error
        except (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 0 if _size(part) > most else failures + 1
        most = max(most, _size(part))
        if failures >= patience.attempts:
            raise _Refused(f"{problem}, {failures} times in a row")
        stop.wait(min(patience.wait * 2**failures, _LONGEST_WAIT))


def _attempt(url: str, wanted: Wanted, part: Path, progress: Progress, stop: threading.Event, timeout: float) -> bool:
    """One request for what is missing; True if the server sent all it announced."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "regicomp", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        with contextlib.suppress(OSError):
            request.add_header("If-Range", _tag(part).read_text(encoding="latin-1"))
    with urllib.request.urlopen(request, timeout=timeout) as response:
        if have and response.status != 206:  # no ranges here, or another version: from the start
            progress.advance(-have)
            have = 0
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if tag and not tag.startswith("W/"):
            _tag(part).write_text(tag, encoding="latin-1")
        announced = response.headers.get("Content-Length")
        if announced is not None:
            progress.expect(have + int(announced))
        most = wanted.bytes if wanted.bytes is not None else _MOST_BYTES
        got = 0
        with part.open("ab" if have else "wb") as file:
            while piece := response.read(_CHUNK):
                if have + got + len(piece) > most:
                    file.flush()
                    _discard(part, progress)
                    raise _Refused(f"the server sends more than the {most} bytes expected")
                file.write(piece)
                got += len(piece)
                progress.advance(len(piece))
                if stop.is_set():
                    raise _Refused("stopped")
            file.flush()
            os.fsync(file.fileno())
    return got == int(announced) if announced is not None else wanted.bytes is None or have + got == wanted.bytes


def free_enough(folder: Path, need: int) -> None:
    """See that a disk has room.

    Raises:
        ValueError: it has not.
    """
    while not folder.exists():
        folder = folder.parent
    stat = os.statvfs(folder)
    free = stat.f_bavail * stat.f_frsize
    if free < need:
        raise ValueError(f"`--root` (={folder}) has {free / 2**20:.0f} MB free; {need / 2**20:.0f} MB are needed")


def addresses(mirror: str | None, folder: str, path: str, urls: Sequence[str]) -> tuple[str, ...]:
    """Addresses of a file: on the mirror alone if there is one, laid out there as in data.root."""
    quoted = urllib.parse.quote(path)
    if mirror:
        return (f"{mirror.rstrip('/')}/{folder}/{quoted}",)
    return tuple(url.replace("{path}", quoted) for url in urls)
