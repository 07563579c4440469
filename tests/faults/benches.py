"""Parts that every kind of fault shares: the undisturbed reference run, and a line of the table."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import NamedTuple

import harness
import torch
from harness import Tiny

from regicomp.image_codec import model_file


class Row(NamedTuple):
    """One line of the table."""

    fault: str
    tries: int
    survived: int
    note: str

    @property
    def lost(self) -> int:
        """Tries that did not survive."""
        return self.tries - self.survived


class Bench(NamedTuple):
    """Where runs are made, and the undisturbed one they are held against."""

    root: Path
    images: Path
    reference: Path
    random: random.Random

    def tiny(self, name: str) -> Tiny:
        """A run in a new directory."""
        return Tiny(self.root / name, self.images)

    def copy(self, name: str, *without: str) -> Tiny:
        """A copy of the undisturbed run, lacking some files: it was killed before they were written."""
        tiny = self.tiny(name)
        shutil.copytree(self.reference, tiny.run)
        for missing in without:
            (tiny.run / missing).unlink()
        return tiny


def prepare(root: Path, seed: int = 0) -> Bench:
    """Images, and the undisturbed run."""
    images = harness.make_images(root / "images")
    bench = Bench(root, images, root / "reference", random.Random(seed))
    harness.finish(bench.tiny("reference"))
    return bench


AFTER_TRAINING = ("codec.safetensors", "source.safetensors", "summary.png", "results.json")


def finite(run: Path) -> bool:
    """Whether every weight of a run's two networks is a number."""
    networks = [
        model_file.load_codec(run / "codec.safetensors").network,
        model_file.load_source(run / "source.safetensors").network,
    ]
    return all(bool(torch.isfinite(p).all()) for network in networks for p in network.parameters())
