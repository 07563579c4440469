"""Manners of a command line: one line for a user's mistake, no banners."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator


def quiet_libraries() -> None:
    """Silence libraries' banners and the deprecations between libraries, which a user cannot mend.

    Must run before torch and lightning are imported.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    # CompressAI 1.2.8 scripts a helper at import; Lightning 2.6 asks PyTorch for a tree's leaves the old way.
    warnings.filterwarnings("ignore", message=".*torch.jit.script. is deprecated")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    # Batches are a function of the update, so the loader goes on where it was with no state of its own.
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before")
    warnings.filterwarnings("ignore", message="The .srun. command is available")  # a sweep's launcher uses it, not we
    # Set on the very logger that speaks: Lightning sets its parents' levels at import.
    for name in ("pytorch.utilities.rank_zero", "fabric.utilities.rank_zero", "pytorch.accelerators.cuda"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)


@contextlib.contextmanager
def told_in_one_line(interrupted: str = "") -> Iterator[None]:
    """Turn a user's mistake (ValueError) or a failing disk (OSError) into one line and exit status 2.

    Ctrl-C is a line and status 130; a second one ends the process at once. HYDRA_FULL_ERROR=1 shows the traceback
    of an error instead.

    Args:
        interrupted: what is told beside that Ctrl-C stopped the command, such as how to go on.
    """
    try:
        yield
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print("stopped" + (interrupted and f"; {interrupted}"), file=sys.stderr, flush=True)
        raise SystemExit(130) from None
    except (ValueError, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        raise SystemExit(2) from error


def spell(seconds: float) -> str:
    """A duration as people say it."""
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
