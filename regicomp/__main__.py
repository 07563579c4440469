"""`regicomp COMMAND …`: the commands under one name; `regicomp train …` is `python -m regicomp.train …`."""

from __future__ import annotations

import difflib
import runpy
import sys
from collections.abc import Sequence

# What each command does, as `regicomp --help` lists them; hyphens stand for the underscores of modules' names.
COMMANDS = {
    "train": "train a codec, measure it and write its record; -m for sweeps (Hydra)",
    "evaluate": "measure a trained codec on other images (Hydra)",
    "report": "turn records into BD-rates, tables, figures and a page",
    "codec": "encode and decode pictures; describe files",
    "export": "write a codec's transforms as ONNX graphs",
    "fetch": "download and verify named data sets",
    "shards": "pack training images into shards",
    "check-data": "look over a folder of training images",
    "identities": "check the theory on random finite sources",
}


def usage() -> str:
    """The text of `regicomp --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: regicomp COMMAND [argument …]", "", *lines, "", "regicomp COMMAND --help says more."])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names, with the others as its own."""
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        print(f"regicomp: `COMMAND` (={name}) must be one of {', '.join(COMMANDS)}{meant}", file=sys.stderr)
        return 2
    module = "regicomp." + name.replace("-", "_")
    sys.argv = [f"regicomp {name}", *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
