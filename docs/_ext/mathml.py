"""Sphinx extension: formulas as MathML, by docutils, so that pages need no script and no network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.math import get_node_equation_number

_UNKNOWN_TO_DOCUTILS = {r"\lt": "<", r"\gt": ">", r"\iff": r"\Longleftrightarrow"}


def _mathml(formula: str, block: bool = False) -> str:
    for name, sign in _UNKNOWN_TO_DOCUTILS.items():
        formula = re.sub(rf"{re.escape(name)}(?![A-Za-z])", lambda _, sign=sign: sign, formula)
    return tex2mathml(formula, as_block=block)


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_mathml(node.astext()))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    number = get_node_equation_number(translator, node) if node.get("number") else ""
    translator.body.append(f'<div class="math">{_mathml(node.astext(), block=True)}{number}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
