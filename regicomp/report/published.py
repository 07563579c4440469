"""Published rate-distortion curves on Kodak, each with where it comes from."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple


class Published(NamedTuple):
    """A curve from the literature, by rising rate."""

    name: str
    label: str
    kind: Literal["classical", "learned"]
    source: str  # where the figures come from
    bpp: tuple[float, ...]
    psnr_db: tuple[float, ...]


TESTSET = "kodak"


@cache
def curves() -> tuple[Published, ...]:
    """The curves of reference/kodak_published.json; all are of the 24 Kodak images."""
    text = files("regicomp").joinpath("reference", "kodak_published.json").read_text(encoding="utf-8")
    rows = json.loads(text)["curves"]
    return tuple(Published(**{**row, "bpp": tuple(row["bpp"]), "psnr_db": tuple(row["psnr_db"])}) for row in rows)
