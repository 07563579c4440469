"""A process of our own that answers what is sent to it through a pipe, and ends with the pipe."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
from collections.abc import Callable
from typing import Any


class Ended(Exception):
    """The process ended instead of answering.

    Args:
        status: its exit status; a negative number is the signal that ended it.
    """

    def __init__(self, status: int | None) -> None:
        super().__init__(f"the process ended with status {status}")
        self.status = status


class Child:
    """A new process (not a fork, which would share PyTorch's threads and the GPU) and this end of the pipe to it.

    Args:
        serve: a module's function, called in the process with the other end of the pipe and `arguments`. Its `recv`
            raises EOFError as soon as this process is gone, however that ended.
        arguments: what else it takes.
    """

    def __init__(self, serve: Callable[..., None], *arguments: Any) -> None:
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, task: Any) -> None:
        """Send a task; of a process that has ended, the next `answer` tells."""
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(task)

    def answer(self, seconds: float | None = None) -> Any:
        """The next answer; waits for so long at most.

        Raises:
            TimeoutError: none has come.
            Ended: the process has.
        """
        if seconds is not None and not self.pipe.poll(seconds):
            raise TimeoutError
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise Ended(self.process.exitcode) from None

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
