"""SIGTERM and SIGUSR1: the run stores where it stands and leaves with a status that a scheduler can requeue on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

REQUEUE = 75
"""Exit status of a run that was asked to leave and can go on (EX_TEMPFAIL of sysexits.h); ckpt=last goes on."""

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class _State:
    pending: signal.Signals | None = None
    training = False


def _say(line: str) -> None:
    os.write(2, f"{line}\n".encode())  # not print(): the handler may have interrupted one


def _handle(signum: int, frame: FrameType | None) -> None:
    del frame
    name = signal.Signals(signum).name
    if _State.pending is not None:
        _say(f"{name} again: ending at once; ckpt=last goes on from the newest checkpoint")
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
        return
    _State.pending = signal.Signals(signum)
    if not _State.training:  # everything on the disk is whole, and what is missing is computed again
        _say(f"{name}: ending with status {REQUEUE}; ckpt=last goes on")
        raise SystemExit(REQUEUE)
    _say(f"{name}: checkpoint at the next update, then exit {REQUEUE}; a second signal ends at once")


def _install() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, _handle)


@contextlib.contextmanager
def requeued() -> Iterator[None]:
    """Within, SIGTERM and SIGUSR1 end the process in order: while training after a checkpoint, else at once."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _SIGNALS} if main else {}
    _State.pending, _State.training = None, False
    _install()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.pending = None


@contextlib.contextmanager
def while_training() -> Iterator[None]:
    """Within, a signal waits for the next update's end (`asked`); afterwards the process leaves.

    Raises:
        SystemExit: with status REQUEUE, at the end, if a signal came.
    """
    _State.training = True
    try:
        yield
    finally:
        _State.training = False
    if _State.pending is not None:
        raise SystemExit(REQUEUE)


def take_over() -> None:
    """Replace the handlers that Lightning has put before ours, so that a signal is handled once."""
    if any(signal.getsignal(number) is not _handle for number in _SIGNALS) and _State.training:
        _install()


def follow() -> None:
    """Another process of the run was asked to leave: so was this one."""
    _State.pending = _State.pending or signal.SIGTERM


def asked() -> bool:
    """Whether a signal has come."""
    return _State.pending is not None
