"""Dead-leaves images: occluding discs with a power-law radius, whose statistics are close to natural images'.

Source: Lee, Mumford, Huang, "Occlusion models for natural images" (2001); radii with density ∝ r^-3.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from regicomp.data import images, photographs
from regicomp.data.images import Pixels

SIDE = 320
_DISCS = 3500
_MOOD = 0.35  # how far an image's colours tend towards one of them, as a photograph's do
# Smallest radius in pixels, drawn for each image: photographs differ in sharpness, and over this range JPEG spends as
# many bits on the images as on photographs. Everything smaller would be texture that a short training does not learn.
_SMALLEST = (3.0, 16.0)
_LARGEST = 160.0  # pixels
_OVERSAMPLING = 2


def _palette() -> Pixels:
    """Colours of a photograph that is in no test set, (n, 3)."""
    return images.read(photographs.FOLDER / photographs.PALETTE).reshape(-1, 3)


def _image(rng: np.random.Generator, palette: Pixels) -> Pixels:
    side = SIDE * _OVERSAMPLING
    low = _OVERSAMPLING * _SMALLEST[0] * (_SMALLEST[1] / _SMALLEST[0]) ** rng.random()
    high = _OVERSAMPLING * _LARGEST
    # Inverse of the distribution function of a density ∝ r^-3 on [low, high].
    radii = (low**-2 - rng.random(_DISCS) * (low**-2 - high**-2)) ** -0.5
    centres = rng.random((_DISCS, 2)) * (side + 2 * radii[:, None]) - radii[:, None]
    # One photograph has few hues. Exchanging its channels gives the others and keeps brightness and saturation.
    mood = rng.permutation(palette[rng.integers(len(palette))])
    drawn = palette[rng.integers(0, len(palette), _DISCS)]
    colours = (1 - _MOOD) * rng.permuted(drawn, axis=1) + _MOOD * mood
    canvas = Image.new("RGB", (side, side), tuple(int(c) for c in mood))
    draw = ImageDraw.Draw(canvas)
    # The largest few lie at the bottom as backdrop; the others fall in the order drawn.
    order = np.concatenate([np.argsort(-radii)[:8], np.arange(_DISCS)])
    for k in order:
        x, y, r = centres[k, 0], centres[k, 1], radii[k]
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(int(c) for c in colours[k]))
    return np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.uint8)


def make(count: int, seed: int) -> list[Pixels]:
    """`count` images of 320×320 pixels; image k is a pure function of (seed, k)."""
    palette = _palette()
    return [_image(np.random.default_rng([seed, k]), palette) for k in range(count)]
