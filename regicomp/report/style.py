"""How a curve looks: colour, dash and marker, the same in figures and page.

The colours are those of Okabe and Ito, distinguishable for colour-blind readers, and lighter ones of the same hues for
dark backgrounds. Backbones differ by colour, α by dash and marker; with one backbone, α differs by colour, too.
"""

from __future__ import annotations

from typing import NamedTuple

from regicomp.report.records import Family

LIGHT = ("#0072B2", "#D55E00", "#009E73", "#A23B86", "#B07A00", "#3A8FC7", "#5A4FCF", "#6B4E2E")
DARK = ("#5BB3EA", "#FF9152", "#3FD0A4", "#E79ACB", "#F0BE4D", "#9AD3F7", "#A9A2F5", "#CBA77F")
GREY_LIGHT, GREY_DARK = "#6E7681", "#9AA4AF"

DASHES = ("solid", "dashdot", "longdash", "dot")  # "dash" is the unregularized codec's
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "x")
# Matplotlib's words for Plotly's.
TO_MATPLOTLIB = {
    "solid": "-",
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
    "longdash": (0, (8, 3)),
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "x": "X",
}


class Style(NamedTuple):
    """The look of one curve."""

    color: int  # index into LIGHT and DARK
    dash: str
    marker: str
    hollow: bool  # markers of unregularized codecs are hollow


def styles(families: list[Family]) -> dict[Family, Style]:
    """A style for each family, stable under their order."""
    backbones = sorted({f.backbone for f in families})
    rising = sorted(families, key=lambda f: (f.alpha == 0, f.alpha))
    kinds = list(dict.fromkeys(_kind(f) for f in rising if f.alpha > 0 or f.variant is not None))
    result: dict[Family, Style] = {}
    for family in families:
        plain = family.alpha == 0
        rank = 1 + kinds.index(_kind(family)) if _kind(family) in kinds else 0
        several = len(backbones) > 1
        dash = "dash" if rank == 0 else DASHES[(rank - 1) % len(DASHES) if several else 0]
        # Families that differ in their budget alone keep colour and dash and differ by marker.
        twins = [f for f in families if (f.backbone, _kind(f)) == (family.backbone, _kind(family))]
        marker = MARKERS[(rank + 3 * twins.index(family)) % len(MARKERS)]
        color = backbones.index(family.backbone) if several else rank
        result[family] = Style(color % len(LIGHT), dash, marker, plain)
    return result


def _kind(family: Family) -> tuple[object, ...]:
    """The settings in which families of one backbone differ, budgets aside."""
    other = family.source if family.source != family.backbone else None
    return (family.alpha, other, family.distortion, family.variant)


def names(families: list[Family]) -> dict[Family, str]:
    """A label for each family; training budgets and sizes are named only where labels would be equal without."""
    result: dict[Family, str] = {}
    for family in families:
        twins = [f for f in families if f.label == family.label]
        added: list[str] = []
        for field, value in family.budget._asdict().items():
            if len({getattr(f.budget, field) for f in twins}) > 1:
                added.append(f"{value:,} steps" if field == "steps" and value is not None else f"{field} {value}")
        if len({f.size for f in twins}) > 1:
            added.append(f"size {family.size}")
        if len({f.source for f in twins}) > 1:
            added.append(f"q_θ {family.source}")
        result[family] = ", ".join([family.label, *added])
    return result
