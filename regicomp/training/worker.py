"""Entry point of the processes that `processes.others` starts: the configuration comes through standard input."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from regicomp.config import resolvers, settings
from regicomp.training import run
from regicomp.utils import cli


def _end_with_parent() -> None:
    while os.read(0, 4096):  # ends when the parent is gone
        pass
    os._exit(1)


def main() -> None:
    """Entry point."""
    with cli.told_in_one_line():
        resolvers.register_resolvers()
        told: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
        threading.Thread(target=_end_with_parent, daemon=True).start()
        run.take_part(settings.resolve(told["config"]), Path(told["run_dir"]))


if __name__ == "__main__":
    main()
