"""The photographs that come with regicomp; photos/LICENSES.md says whose they are."""

from __future__ import annotations

from pathlib import Path

from regicomp.data import images
from regicomp.data.images import Pixels

FOLDER = Path(__file__).parent / "photos"
TEST = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "flower": "flower.jpg",
    "rocket": "rocket.jpg",
}
"""Files of the test set `photos`, by name."""

PALETTE = "china.jpg"  # whose colours dead-leaves images have; in no test set


def photograph(name: str) -> Pixels:
    """A photograph by its name in the test set, such as "astronaut", (H, W, 3), 300 to 640 pixels a side.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in TEST:
        raise ValueError(f"`name` (={name}) must be one of {', '.join(TEST)}")
    return images.read(FOLDER / TEST[name])
