"""PSNR, the one definition of it: of training, evaluation, and the codec's aim."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def psnr_db(mse_255: float) -> float:
    """PSNR of a mean squared error on the 0..255 scale; 100 dB stands for a perfect reconstruction."""
    return 100.0 if mse_255 <= 0 else min(100.0, 10 * math.log10(255**2 / mse_255))


def psnr_of(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """PSNR in dB of two 8-bit images, (H, W, 3)."""
    difference = x.astype(np.float32) - x_hat.astype(np.float32)  # integers, exact in float32
    return psnr_db(float(np.mean(difference * difference, dtype=np.float64)))
