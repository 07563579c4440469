"""Sphinx extension: Markdown that is written for the repository becomes pages of the site.

Relative links between Markdown files hold in both. A link to code that is documented here becomes one to the API
reference, a link to a folder one to its README, a link to settings one to their reference. Two fences are filled in:
`{settings-reference}` and `{room} NAME`.
"""

from __future__ import annotations

import ast
import importlib
import re
import typing
import zlib
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import rooms
import settings_reference

ROOT = Path(__file__).resolve().parents[2]
SETTINGS_PAGE = "docs/configuration.md"
_FENCE = re.compile(r"^(`{3,})([^\n]*)\n(.*?)^\1`*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]`]|`[^`]*`)+)\]\((?!\w+:|#)([^()\s#]+)(#[^()\s]*)?\)")


def page(text: str, docname: str) -> str:
    """A page's Markdown for the site, from the repository's.

    Args:
        text: the file's.
        docname: its path in the repository without the ending.
    """
    parts, at = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_links(text[at : fence.start()], docname), _filled(fence)]
        at = fence.end()
    told = "".join([*parts, _links(text[at:], docname)])
    # Tables of results and the like are pages that others link to, in no list of contents.
    elsewhere = docname.split("/")[0] in ("experiments", "bench") and f"\n../{docname}\n" not in _front()
    return f"---\norphan: true\n---\n\n{told}" if elsewhere else told


@cache
def _front() -> str:
    return (ROOT / "docs/index.md").read_text(encoding="utf-8")


def _filled(fence: re.Match[str]) -> str:
    if fence[2].strip() == "{settings-reference}":
        return settings_reference.markdown()
    if found := re.fullmatch(r"\{room\} (\w+)", fence[2].strip()):
        return rooms.markdown(found[1])
    return fence[0]


def _links(text: str, docname: str) -> str:
    here = PurePosixPath(docname).parent
    return _LINK.sub(lambda found: _link(found, here), text)


def _link(found: re.Match[str], here: PurePosixPath) -> str:
    text, target, anchor = found[1], found[2], found[3] or ""
    path = (ROOT / here / target).resolve()
    relative = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    if relative.startswith("regicomp/") and relative.endswith(".py"):
        return _code(text, relative)
    if relative == "conf" or relative.startswith("conf/"):
        return f"[{text}]({_up(here)}{SETTINGS_PAGE}{_group(path)})"
    if path.is_dir():
        readme = path / "README.md"
        return f"[{text}]({target.rstrip('/')}/README.md)" if readme.is_file() else text
    return f"[{text}]({target}{anchor})"


def _code(text: str, path: str) -> str:
    """A link to a module, or, where the text is `module.name` of it, to what is so called."""
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    name = text.strip("`")
    last = module.rpartition(".")[2]
    if re.fullmatch(rf"{last}(\.\w+)+", name):
        return f"{{py:obj}}`{name} <{module}{name.removeprefix(last)}>`"
    return f"{{py:mod}}`{name} <{module}>`"


def _up(here: PurePosixPath) -> str:
    return "../" * len(here.parts)


def _group(path: Path) -> str:
    relative = path.relative_to(ROOT / "conf")
    folder = relative if path.is_dir() else relative.parent
    return f"#{settings_reference.anchor(folder.as_posix())}" if folder.parts else ""


# --- Sphinx -----------------------------------------------------------------------------------------------------------


def _skip_fields(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples stand in the signature."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def _evaluate_types(app: Any) -> None:
    """Names in annotations that autodoc would leave as they are written, and look up in all modules."""
    for room in ("regicomp", *rooms.rooms()):
        for name in rooms.modules(room):
            module = importlib.import_module(name)
            for node in ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body:
                if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                    exec(compile(ast.Module(node.body, []), name, "exec"), vars(module))
            for cls in list(vars(module).values()):
                if isinstance(cls, type) and cls.__module__ == name and hasattr(cls, "_fields"):  # a named tuple
                    cls.__new__.__annotations__ = typing.get_type_hints(cls)


def _plain_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings are sentences with code in backticks: what reStructuredText would take for markup is escaped."""
    for at, line in enumerate(lines):
        parts = re.split(r"(`[^`]*`)", line)
        lines[at] = "".join(
            f"`{part}`" if part.startswith("`") and part.endswith("`") and len(part) > 2 else _escape(part)
            for part in parts
        )


def _escape(text: str) -> str:
    return re.sub(r"(?<!\\)([|*])|(?<=\w)(_)(?!\w)", lambda found: "\\" + found[0], text)


def _read(app: Any, docname: str, source: list[str]) -> None:
    source[0] = page(source[0], docname)


def _front_door(app: Any, error: Exception | None) -> None:
    """The site's address without a page leads to the front page."""
    if error is None and app.builder.format == "html":
        front = f"{app.config.root_doc}.html"
        head = f'<meta charset="utf-8"><title>regicomp</title><meta http-equiv="refresh" content="0; url={front}">'
        text = f'<!doctype html>{head}<a href="{front}">regicomp</a>\n'
        (Path(app.outdir) / "index.html").write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.connect("builder-inited", _evaluate_types)
    app.connect("env-get-outdated", lambda *_: [SETTINGS_PAGE.removesuffix(".md")])  # whose sources are in conf/
    app.connect("source-read", _read)
    app.connect("autodoc-skip-member", _skip_fields)
    app.connect("autodoc-process-docstring", _plain_docstring)
    app.connect("build-finished", _front_door)
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return {"env_version": zlib.crc32(sources), "parallel_read_safe": True, "parallel_write_safe": True}
