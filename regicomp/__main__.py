"""`regicomp COMMAND …`: the commands under one name; `regicomp train …` is `python -m regicomp.train …`."""

from __future__ import annotations

import difflib
import os
import runpy
import sys
from collections.abc import Sequence

# What each command does, as `regicomp --help` lists them; hyphens stand for the underscores of modules' names.
COMMANDS = {
    "train": "train a codec, measure it and write its record; -m for sweeps (Hydra)",
    "evaluate": "measure a trained codec on other images (Hydra)",
    "report": "turn records into BD-rates, tables, figures and a page",
    "dashboard": "describe a sweep to Weights & Biases as a report",
    "codec": "encode and decode pictures; describe files",
    "export": "write a codec's transforms as ONNX graphs",
    "fetch": "download and verify named data sets",
    "shards": "pack training images into shards",
    "check-data": "look over a folder of training images",
    "identities": "check the theory on random finite sources",
}


_IN_ROOMS = {"dashboard": "report.dashboard"}  # commands that are no module of the package's root
_COMPOSED = ("train", "evaluate")  # commands whose arguments Hydra completes
_COMPLETION = "-sc"  # Hydra's flag


def usage() -> str:
    """The text of `regicomp --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    more = ["regicomp COMMAND --help says more.", 'Completion in bash: eval "$(regicomp -sc install=bash)"']
    return "\n".join(["usage: regicomp COMMAND [argument …]", "", *lines, "", *more])


def _complete(rest: Sequence[str]) -> int:
    """Hydra's shell completion for `regicomp COMMAND …`; the shell's line stands in $COMP_LINE."""
    name = _COMPOSED[0]
    if any(argument.startswith("query=") for argument in rest):
        _, *words = (line := os.environ.get("COMP_LINE", "")).split()
        if not words or (len(words) == 1 and not line.endswith(" ")):
            print(" ".join(COMMANDS))
            return 0
        name = words[0]
        if name not in _COMPOSED:
            return 0
        os.environ["COMP_LINE"] = line.split(None, 1)[1]  # so that the command looks like the program
    sys.argv = ["regicomp", _COMPLETION, *rest]
    runpy.run_module(f"regicomp.{name}", run_name="__main__", alter_sys=False)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names, with the others as its own."""
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == _COMPLETION:
        return _complete(rest)
    if name in _COMPOSED and _COMPLETION in rest:
        return _complete([argument for argument in rest if argument != _COMPLETION])
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        print(f"regicomp: `COMMAND` (={name}) must be one of {', '.join(COMMANDS)}{meant}", file=sys.stderr)
        return 2
    module = "regicomp." + _IN_ROOMS.get(name, name.replace("-", "_"))
    sys.argv = [f"regicomp {name}", *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
