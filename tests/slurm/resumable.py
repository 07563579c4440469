"""A job that stores where it stands as a run does, and takes no time: sent to a cluster by test_slurm.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from regicomp.launch import signals


class Resumable(NamedTuple):
    """Waits to be asked to leave, stores that; started again, it ends."""

    folder: Path

    def __call__(self) -> str:
        """The job."""
        with (self.folder / "starts").open("a") as starts:
            starts.write("start\n")
        with signals.requeued(), signals.while_training():
            (self.folder / "ready").touch()
            while not (self.folder / "stored").exists():
                time.sleep(0.1)
                if signals.asked():
                    time.sleep(0.5)  # an update is under way
                    (self.folder / "stored").touch()
        return "done"

    def checkpoint(self) -> object:
        """The job that submitit puts back into the queue: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
