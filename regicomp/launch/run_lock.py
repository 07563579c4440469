"""One process a run directory: a lock that the kernel gives back however its holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from regicomp.distributed import environment
from regicomp.utils.files import remove_leftovers

log = logging.getLogger(__name__)

_NAME = "run.lock"
_CANNOT_LOCK = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


class InUse(ValueError):
    """Another process uses the run directory."""


@contextlib.contextmanager
def sole_user(run_dir: Path) -> Iterator[None]:
    """Hold `run_dir` for this process and clear away what a killed predecessor left half-written.

    The lock is flock(2)'s, so SIGKILL or a power cut leave none behind. Only the first rank of a distributed run
    takes it. On a file system without locks the run goes on, with a warning.

    Raises:
        InUse: another process holds it.
    """
    if not environment.is_first():
        yield
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    handle = os.open(run_dir / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    open_here = [handle]
    # A forked data worker must not keep the lock alive after its parent is killed.
    os.register_at_fork(after_in_child=lambda: [os.close(h) for h in open_here])
    try:
        _take(handle, run_dir)
        for folder in (run_dir, run_dir / "checkpoints"):
            remove_leftovers(folder)
        yield
    finally:
        open_here.clear()
        os.close(handle)


def _take(handle: int, run_dir: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(handle, 200).decode(errors="replace").strip() or "unknown"
        raise InUse(
            f"`hydra.run.dir` (={run_dir}) must be used by one run at a time; it is in use by {holder}"
        ) from error
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise
        log.warning("%s: this file system has no locks; see to it that no second run is started here", run_dir)
        return
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
