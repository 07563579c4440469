"""BD-rate: the average difference in rate of two rate-distortion curves at equal quality, in percent.

Single values come from the package `bjontegaard`; `batched` gives the same for thousands of resampled curves at once,
which the bootstrap needs. Where a value would be meaningless there is none: see `problems`.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

Method = Literal["pchip", "akima"]
METHODS: tuple[Method, ...] = get_args(Method)

MIN_POINTS = 4  # of each curve
MIN_OVERLAP = 0.5  # of the shorter curve's range of quality
MIN_SPAN_DB = 2.0  # of each curve's range of quality: below it the training budget, not λ, determines the points

Array = NDArray[np.float64]


class RdCurve(NamedTuple):
    """Points in the order of λ (or of rate where there is no λ)."""

    rate: Array  # bits per pixel, (P,)
    quality: Array  # dB, (P,)


def overlap(anchor: RdCurve, test: RdCurve) -> float:
    """Common range of quality, as a part of the shorter curve's range; 0 where there is none."""
    low = max(anchor.quality.min(), test.quality.min())
    high = min(anchor.quality.max(), test.quality.max())
    shorter = min(np.ptp(anchor.quality), np.ptp(test.quality))
    return float(max(0.0, high - low) / shorter) if shorter > 0 else 0.0


def problems(anchor: RdCurve, test: RdCurve, min_span: float = MIN_SPAN_DB) -> list[str]:
    """Reasons why two curves have no meaningful BD-rate; empty where they have one."""
    found: list[str] = []
    for name, curve in (("the anchor", anchor), ("the curve", test)):
        points = len(curve.rate)
        if points < MIN_POINTS:
            found.append(f"{name} has {points} point{'s' * (points != 1)}, {MIN_POINTS} are needed")
        elif not (np.all(np.diff(curve.quality) > 0) and np.all(np.diff(curve.rate) > 0)):
            found.append(f"{name} is not monotone: rate and quality must rise from point to point")
        elif np.ptp(curve.quality) < min_span:
            found.append(f"{name} spans {np.ptp(curve.quality):.2f} dB, less than {min_span:g} dB")
    if not found and overlap(anchor, test) < MIN_OVERLAP:
        found.append(
            f"the curves share {overlap(anchor, test):.0%} of the shorter one's range of quality, less than "
            f"{MIN_OVERLAP:.0%}"
        )
    return found


def bd_rate(anchor: RdCurve, test: RdCurve, method: Method) -> float:
    """BD-rate of `test` against `anchor`, in percent; negative where `test` needs fewer bits.

    The curves must be free of `problems`.
    """
    return float(_package(anchor, test, method, interpolators=False))


def _package(anchor: RdCurve, test: RdCurve, method: Method, interpolators: bool) -> Any:
    import bjontegaard  # loads scipy and matplotlib, which --help should not wait for

    return bjontegaard.bd_rate(
        *anchor,
        *test,
        method=method,
        require_matching_points=False,
        interpolators=interpolators,
        min_overlap=0,
    )


def difference(anchor: RdCurve, test: RdCurve, method: Method, points: int = 41) -> tuple[Array, Array]:
    """The difference in rate at each quality: quality in dB and difference in percent, each (points,)."""
    _, of_anchor, of_test = _package(anchor, test, method, interpolators=True)
    low = max(anchor.quality.min(), test.quality.min())
    high = min(anchor.quality.max(), test.quality.max())
    quality = np.linspace(low, high, points)
    return quality, 100 * (np.power(10.0, of_test(quality) - of_anchor(quality)) - 1)


def _pchip_slopes(h: Array, d: Array) -> Array:
    """Fritsch and Carlson's monotone slopes; h, d: widths and slopes of the intervals, (B, P-1) with P ≥ 3."""
    before, after = d[:, :-1], d[:, 1:]
    w1, w2 = 2 * h[:, 1:] + h[:, :-1], h[:, 1:] + 2 * h[:, :-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = np.where(before * after > 0, (w1 + w2) / (w1 / before + w2 / after), 0.0)

    def end(h0: Array, h1: Array, d0: Array, d1: Array) -> Array:
        slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
        slope = np.where(np.sign(slope) != np.sign(d0), 0.0, slope)
        steep = (np.sign(d0) != np.sign(d1)) & (np.abs(slope) > 3 * np.abs(d0))
        return np.where(steep, 3 * d0, slope)

    first = end(h[:, 0], h[:, 1], d[:, 0], d[:, 1])
    last = end(h[:, -1], h[:, -2], d[:, -1], d[:, -2])
    return np.concatenate([first[:, None], inner, last[:, None]], axis=1)


def _akima_slopes(d: Array) -> Array:
    """Akima's slopes; d: slopes of the intervals, (B, P-1) with P ≥ 3."""
    left1 = 2 * d[:, 0] - d[:, 1]
    right1 = 2 * d[:, -1] - d[:, -2]
    ends = [2 * left1 - d[:, 0], left1], [right1, 2 * right1 - d[:, -1]]
    m = np.concatenate([np.stack(ends[0], 1), d, np.stack(ends[1], 1)], axis=1)
    change = np.abs(np.diff(m, axis=1))
    ahead, behind = change[:, 2:], change[:, :-2]
    total = ahead + behind
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = m[:, 1:-2] + behind / total * (m[:, 2:-1] - m[:, 1:-2])
    flat = total <= 1e-9 * total.max(axis=1, keepdims=True)
    return np.where(flat, (m[:, 3:] + m[:, :-3]) / 2, slopes)


def _integral(x: Array, y: Array, low: Array, high: Array, method: Method) -> Array:
    """Integral from low to high (B,) of the cubic Hermite interpolants of the points x, y (B, P)."""
    h = np.diff(x, axis=1)
    d = np.diff(y, axis=1) / h
    slopes = _pchip_slopes(h, d) if method == "pchip" else _akima_slopes(d)
    y0, y1 = y[:, :-1], y[:, 1:]
    s0, s1 = h * slopes[:, :-1], h * slopes[:, 1:]

    def primitive(t: Array) -> Array:
        t2, t3, t4 = t * t, t**3, t**4
        return (
            y0 * (t - t3 + t4 / 2) + y1 * (t3 - t4 / 2) + s0 * (t2 / 2 - 2 * t3 / 3 + t4 / 4) + s1 * (t4 / 4 - t3 / 3)
        )

    start = np.clip((low[:, None] - x[:, :-1]) / h, 0, 1)
    stop = np.clip((high[:, None] - x[:, :-1]) / h, 0, 1)
    return np.sum(h * (primitive(stop) - primitive(start)), axis=1)


def batched(anchor: RdCurve, test: RdCurve, method: Method) -> Array:
    """BD-rates in percent of many pairs of curves, arrays of (B, P) and (B, Q); NaN where a pair has none.

    A pair has none where a curve is not monotone, has fewer than three points, or the two share no quality.
    """
    result = np.full(len(anchor.rate), math.nan)
    if min(anchor.rate.shape[1], test.rate.shape[1]) < 3:
        return result
    low = np.maximum(anchor.quality.min(axis=1), test.quality.min(axis=1))
    high = np.minimum(anchor.quality.max(axis=1), test.quality.max(axis=1))
    good = high > low
    for values in (anchor.quality, test.quality, anchor.rate, test.rate):
        good &= np.all(np.diff(values, axis=1) > 0, axis=1)
    if np.any(good):
        low, high = low[good], high[good]
        of_anchor, of_test = (
            _integral(curve.quality[good], np.log10(curve.rate[good]), low, high, method) for curve in (anchor, test)
        )
        result[good] = 100 * (10 ** ((of_test - of_anchor) / (high - low)) - 1)
    return result
