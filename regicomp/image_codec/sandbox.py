"""Decoding in a child process with bounded memory and time, for files from strangers.

The range decoder cannot be made to read outside its stream (docs/format.md). This is the second barrier: whatever a
file does to the libraries below, it ends a process that holds nothing else, and the caller gets a ValueError.
"""

from __future__ import annotations

import multiprocessing as mp
import resource
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from regicomp.image_codec.container import as_bytes
from regicomp.image_codec.picture import Picture
from regicomp.utils.child import Child, Ended

MEMORY_BYTES = 8 << 30
SECONDS = 600.0
_START_SECONDS = 120.0
_GUARD = (
    "IsolatedDecoder starts a process, which imports the main script again: the script's statements must stand below "
    '`if __name__ == "__main__":`'
)


def _serve(pipe: Connection, model: str, settings: dict[str, Any], memory: int) -> None:
    """The child: load the codec, then answer each file with a Picture or a message."""
    from regicomp.utils import cli

    cli.quiet_libraries()
    import regicomp

    try:
        codec = regicomp.load(model, **settings)
    except ValueError as error:
        pipe.send(str(error))
        return
    # PyTorch reserves addresses while it is loaded; the bound is on what is allocated afterwards.
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + memory
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    pipe.send(None)
    while (data := pipe.recv()) is not None:
        try:
            pipe.send(codec.decompress_picture(data))
        except (ValueError, MemoryError) as error:
            pipe.send(str(error) or "the file asks for more memory than is allowed")


class IsolatedDecoder:
    """A codec's decoder in a child process, started anew after a file has ended it.

    Args:
        model: a codec.safetensors.
        settings: as `regicomp.load` takes them.
        memory: bytes that decoding may take on top of the loaded codec.
        seconds: that one file may take.
    """

    def __init__(
        self,
        model: str | Path,
        settings: dict[str, Any] | None = None,
        memory: int = MEMORY_BYTES,
        seconds: float = SECONDS,
    ) -> None:
        self._arguments = (str(model), settings or {}, memory)
        self._seconds = seconds
        self._child: Child | None = None

    def _running(self) -> Child:
        if self._child is None:
            if getattr(mp.current_process(), "_inheriting", False):  # a child that is importing the main script
                raise RuntimeError(_GUARD)
            self._child = Child(_serve, *self._arguments)
            refused = self._answer(self._child, _START_SECONDS, starting=True)
            if refused is not None:
                self.close()
                raise ValueError(str(refused))
        return self._child

    def _answer(self, child: Child, seconds: float, starting: bool = False) -> Any:
        try:
            return child.answer(seconds)
        except TimeoutError:
            self.close()
            raise ValueError(f"the decoder took longer than {seconds:g} s and was ended") from None
        except Ended as ended:
            self.close()
            if starting:
                raise RuntimeError(
                    f"the decoder's process ended with status {ended.status} while it started; {_GUARD}"
                ) from None
            raise ValueError(f"the decoder was ended by the file (exit status {ended.status})") from None

    def decompress(self, data: bytes | bytearray | memoryview) -> Picture:
        """Decode a container; see `Codec.decompress`.

        Raises:
            ValueError: the container is refused, or ended the child, or took too long.
            TypeError: `data` holds no bytes.
            RuntimeError: the child could not start, as where a script lacks its main guard.
        """
        data = as_bytes(data)
        child = self._running()
        child.send(data)
        answer = self._answer(child, self._seconds)
        if isinstance(answer, str):
            raise ValueError(answer)
        return answer

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
        self._child = None

    def __enter__(self) -> IsolatedDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
