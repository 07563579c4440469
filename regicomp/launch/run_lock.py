"""One process a run directory: a lock that the kernel gives back however its holder dies."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

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

    The lock is flock(2)'s, so SIGKILL or a power cut leave none behind, and forked data workers do not keep it. Only
    the first rank of a distributed run takes it. On a file system without locks the run goes on, with a warning.

    Raises:
        InUse: another process holds it.
    """
    if not environment.is_first():
        yield
        return
    path = run_dir / _NAME
    run_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            # The soft lock of file systems without flock would outlive a killed holder.
            held.enter_context(filelock.FileLock(path, blocking=False, fallback_to_soft=False))
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        except filelock.Timeout as error:
            holder = path.read_text(errors="replace").strip() or "unknown"
            raise InUse(
                f"`hydra.run.dir` (={run_dir}) must be used by one run at a time; it is in use by {holder}"
            ) from error
        except OSError as error:
            if error.errno not in _CANNOT_LOCK:
                raise
            log.warning("%s: this file system has no locks; see to it that no second run is started here", run_dir)
        for folder in (run_dir, run_dir / "checkpoints"):
            remove_leftovers(folder)
        yield
