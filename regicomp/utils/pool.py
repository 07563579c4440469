"""Processes side by side that Ctrl-C ends."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor


@contextlib.contextmanager
def process_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes Ctrl-C ends without a word; what they had not begun is dropped.

    Where this process alone is interrupted, it waits for what is under way; a second interrupt ends it at once.
    """
    pool = ProcessPoolExecutor(jobs, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_DFL))
    try:
        yield pool
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
