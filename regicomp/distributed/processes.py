"""The processes of one run: started, numbered, watched, and ended together.

One process a device. On one machine the command starts the others itself; across machines it is started once a node
with MASTER_ADDR, MASTER_PORT and NODE_RANK set, or once a process by Slurm's srun or by torchrun. The processes that
the command starts read the composed configuration from it, so they share its run directory in sweeps too, and they
end when it does.

Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from regicomp.distributed.environment import _TOLD_BY_US, started_elsewhere

_GRACE_SECONDS = 10.0  # for this process to fail by itself once another has, before it is ended


@contextlib.contextmanager
def others(told: Mapping[str, Any], devices: int, num_nodes: int) -> Iterator[None]:
    """Start the other processes of this node where that is ours to do, and end them when the block ends.

    Args:
        told: what they read from standard input, as JSON: the run's configuration and directory.
        devices: processes on this node.
        num_nodes: machines of the run.

    Raises:
        ChildProcessError: another process ended with an error, which ended the run.
    """
    alone = devices == 1 and num_nodes == 1
    if alone or started_elsewhere() or "LOCAL_RANK" in os.environ:
        yield
        return
    before = {name: os.environ.get(name) for name in _TOLD_BY_US}
    os.environ |= {
        "LOCAL_RANK": "0",
        "MASTER_ADDR": os.environ.get("MASTER_ADDR", "127.0.0.1"),
        "MASTER_PORT": os.environ.get("MASTER_PORT") or str(free_port()),
        "NODE_RANK": os.environ.get("NODE_RANK", "0"),
        "WORLD_SIZE": str(devices * num_nodes),
    }
    children = [_start(told, local) for local in range(1, devices)]
    watch = _Watch(children)
    try:
        yield
        watch.finish()
    except Exception as error:
        if not isinstance(error, ValueError) and watch.failed(wait=_GRACE_SECONDS / 2):
            raise ChildProcessError(watch.told) from error
        raise
    finally:
        watch.end()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def free_port() -> int:
    """A port of this machine that nothing listens on.

    Below the range from which the system hands ports out, so that no other program gets it before it is used.
    """
    while True:
        port = random.SystemRandom().randrange(15_000, 30_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("", port))
            return port


def _start(told: Mapping[str, Any], local_rank: int) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-m", "regicomp.training.worker"],
        stdin=subprocess.PIPE,  # stays open: its end tells the child that this process is gone
        env={**os.environ, "LOCAL_RANK": str(local_rank), "TQDM_DISABLE": "1"},
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(told).encode() + b"\n")
    child.stdin.flush()
    return child


class _Watch:
    """Waits for the children; when one fails, gives this process a moment to notice, then ends it."""

    def __init__(self, children: Sequence[subprocess.Popen[bytes]]) -> None:
        self.children = children
        self.told = ""
        self._over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self._over.wait(0.2):
            if self.failed():
                if self._over.wait(_GRACE_SECONDS):
                    return
                print(f"error: {self.told}", file=sys.stderr, flush=True)
                self.end()
                os._exit(1)

    def failed(self, wait: float = 0.0) -> bool:
        """Whether a child has ended with an error, within `wait` seconds."""
        deadline = time.monotonic() + wait
        while True:
            for local, child in enumerate(self.children, 1):
                if child.poll():
                    self.told = (
                        f"process {local} of the run ended with status {child.returncode}, so the run ends; "
                        "ckpt=last goes on from its last checkpoint"
                    )
                    return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)

    def finish(self) -> None:
        """Wait until all children have ended.

        Raises:
            ChildProcessError: one has not ended well.
        """
        for child in self.children:
            child.wait()
        if self.failed():
            raise ChildProcessError(self.told)

    def end(self) -> None:
        """End what is left of the children."""
        self._over.set()
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
            if child.stdin is not None:
                with contextlib.suppress(OSError):
                    child.stdin.close()
