"""The images of a test set measured in parallel processes of this machine.

Each process loads the codec's file once and holds one image at a time. Results are those of one process, to the bit:
every process computes with as many threads as this one would.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from regicomp.utils.child import Child, Ended

if TYPE_CHECKING:  # a process imports this module before it has quieted the libraries below
    from regicomp.data.testsets import TestImage
    from regicomp.evaluation.metrics import ImageResult


class Files(NamedTuple):
    """The files of the codec and q_θ that the processes load."""

    codec: Path  # codec.safetensors
    source: Path | None  # source.safetensors, to measure H_θ(X|X̂) too
    precision: str = "float32"  # of g_a and g_s
    trusted: tuple[str, ...] = ()  # the user's own modules whose classes the files may name


def _serve(pipe: Connection, files: Files, threads: int) -> None:
    """In the process: measure each image that is sent; the pipe ends with the parent, however that ends."""
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):  # sent to the whole group; the parent acts on them
        signal.signal(number, signal.SIG_IGN)
    from regicomp.utils import cli

    cli.quiet_libraries()
    import torch

    from regicomp.evaluation import round_trip
    from regicomp.image_codec import model_file

    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            codec = round_trip.Codec(model_file.load_codec(files.codec, files.trusted), files.precision)
            source = None if files.source is None else model_file.load_source(files.source, files.trusted).network
        except Exception as error:
            pipe.recv()
            pipe.send(_sendable(error))
            return
        while True:
            image, quality = pipe.recv()
            try:
                pipe.send(round_trip.measure(codec, image, source, quality))
            except Exception as error:
                pipe.send(_sendable(error))


def _sendable(error: Exception) -> Exception:
    """The error itself if it is one of Python's own, which its arguments rebuild elsewhere, else its description."""
    plain = type(error).__module__ == "builtins" and all(isinstance(a, str | int) for a in error.args)
    return error if plain else RuntimeError(f"{type(error).__name__}: {error}")


_Task: TypeAlias = "tuple[TestImage, float | None]"  # an image, and the quality that it is measured at


class Processes:
    """Processes that measure images; they start with the first images. After an error, they can only be closed.

    Args:
        count: how many at most.
        files: what they measure.
    """

    def __init__(self, count: int, files: Files) -> None:
        self._count, self._files = count, files
        self._running: list[Child] = []

    def measure(self, images: Sequence[TestImage], quality: float | None = None) -> Iterator[tuple[int, ImageResult]]:
        """Measure images; each one's number in the list and its result, as they come.

        Args:
            images: what is measured.
            quality: at which, where the codec is of variable rate.

        Raises:
            ValueError: an image is refused; it is named.
            RuntimeError: an image failed or ended its process; it is named.
        """
        self._start(min(self._count, len(images)))
        left = iter(enumerate((image, quality) for image in images))
        busy: dict[Connection, tuple[int, Child]] = {}
        for process in self._running:
            self._hand_on(process, left, busy)
        while busy:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                number, process = busy.pop(pipe)
                result = self._answer(process, images[number].name)
                self._hand_on(process, left, busy)
                yield number, result

    def _hand_on(
        self,
        process: Child,
        left: Iterator[tuple[int, _Task]],
        busy: dict[Connection, tuple[int, Child]],
    ) -> None:
        """Give a process the next image, if there is one."""
        number, task = next(left, (0, None))
        if task is None:
            return
        process.send(task)
        busy[process.pipe] = number, process

    def _answer(self, process: Child, name: str) -> ImageResult:
        try:
            answer = process.answer()
        except Ended as ended:
            raise RuntimeError(
                f"{name}: the process that measured it ended with status {ended.status}; "
                "a negative number is a signal, and -9 often means that memory ran out: try fewer `workers`"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _start(self, count: int) -> None:
        import torch

        threads = torch.get_num_threads()
        # Threads that share cores must not wait actively for each other.
        crowded = count * threads > len(os.sched_getaffinity(0)) and "OMP_WAIT_POLICY" not in os.environ
        if crowded:
            os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        try:
            while len(self._running) < count:
                self._running.append(Child(_serve, self._files, threads))
        finally:
            if crowded:
                del os.environ["OMP_WAIT_POLICY"]

    def close(self) -> None:
        """End the processes."""
        for process in self._running:
            process.close()
        self._running = []


@contextlib.contextmanager
def processes(count: int, files: Files) -> Iterator[Processes | None]:
    """The `helpers` of `round_trip.evaluate`: none where this process is enough."""
    if count == 1:
        yield None
        return
    made = Processes(count, files)
    try:
        yield made
    finally:
        made.close()
