"""The documentation as a site: every setting and module is in a reference, no warnings, no broken links."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from regicomp.config.conf_files import conf_dir
from regicomp.config.schema import rules
from regicomp.config.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
EXTENSIONS = ROOT / "docs/_ext"


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`extension(name)`: a module of docs/_ext."""
    monkeypatch.syspath_prepend(str(EXTENSIONS))
    return importlib.import_module


def _leaves(node: DictConfig, prefix: str = "") -> list[str]:
    found = []
    for key in node:
        below = node._get_node(key)
        if isinstance(below, DictConfig) and len(below):
            found += _leaves(below, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key}")
    return found


def test_the_reference_has_every_key_of_every_file(extension: Any) -> None:
    text = extension("settings_reference").markdown()
    entries = set(re.findall(r"^`+\{confval\} (.*)$", text, re.MULTILINE))
    for path in sorted(conf_dir().rglob("*.yaml")):
        group = path.parent.relative_to(conf_dir())
        source = path.read_text(encoding="utf-8")
        if group.parts and group.parts[0] == "experiment":
            assert re.sub(r"\A(#.*\n)+", "", source).rstrip() in text, path
            continue
        node = OmegaConf.load(path)
        assert isinstance(node, DictConfig)
        node.pop("defaults", None)
        package = re.match(r"# @package (\S+)", source)
        prefix = "".join(f"{part}." for part in group.parts) if package is None else ""
        for name in _leaves(node):
            near = {prefix + name, (prefix + name).rpartition(".")[0]}  # a mapping on one line is a value
            assert near & entries, f"{path}: {name}"


def test_the_reference_has_every_comment_and_every_rule(extension: Any) -> None:
    text = extension("settings_reference").markdown()
    plain = re.sub(r"\\([\\|*_<>\[\]${}~])", r"\1", text)
    for path in conf_dir().rglob("*.yaml"):
        source = path.read_text(encoding="utf-8")
        for comment in re.findall(r"(?:^|\s)# ?(?!@package)(\S.*)$", source, re.MULTILINE):
            assert comment.strip() in plain, f"{path}: {comment}"
    for name, its_rule in rules(Settings):
        entry = re.search(rf"^`+{{confval}} {re.escape(name)}\n(.*?)^`+$", text, re.MULTILINE | re.DOTALL)
        assert entry, name
        assert its_rule.expected == "there" or f":type: {its_rule.expected}\n" in entry[1], name


def test_defaults_are_those_that_are_composed(extension: Any, composed: Any) -> None:
    text = extension("settings_reference").markdown()
    cfg = composed(tiny=False)
    for name, default in re.findall(r"^`+\{confval\} (\S+)\n(?::type: .*\n)?:default: `(.*)`$", text, re.MULTILINE):
        value = None if name.startswith("hydra.") else OmegaConf.select(cfg, name)
        if isinstance(value, bool | int | float | str) and "$" not in default and "_target_" not in name:
            assert OmegaConf.create(f"value: {default}")["value"] == value, name


def test_every_room_has_a_page(extension: Any) -> None:
    pages = {path.stem for path in (ROOT / "docs/api").glob("*.md")} - {"index"}
    assert pages == {"regicomp", *extension("rooms").rooms()}
    listed = (ROOT / "docs/api/index.md").read_text(encoding="utf-8").split("```{toctree}")[1]
    assert pages <= set(listed.split())


def test_every_decision_is_listed() -> None:
    text = (ROOT / "docs/decisions/index.md").read_text(encoding="utf-8")
    links, listed = text.split("```{toctree}")
    names = {path.stem for path in (ROOT / "docs/decisions").glob("*.md")} - {"index"}
    assert names == set(re.findall(r"\]\((\w[\w-]*)\.md\)", links)) == set(listed.replace("```", "").split()[1:])


def test_every_experiment_is_listed() -> None:
    listed = set((ROOT / "docs/index.md").read_text(encoding="utf-8").split())
    pages = {f"../experiments/{path.parent.name}/README" for path in (ROOT / "experiments").glob("*/README.md")}
    assert pages
    assert pages <= listed


def test_links_of_the_repository_become_links_of_the_site(extension: Any) -> None:
    page = extension("repository_pages").page
    for link, expected in {
        "[`schema.read`](../regicomp/config/schema.py)": "{py:obj}`schema.read <regicomp.config.schema.read>`",
        "[where](../regicomp/config/schema.py)": "{py:mod}`where <regicomp.config.schema>`",
        "[optimizers](../conf/optimizer)": "[optimizers](../docs/configuration.md#group-optimizer)",
        "[table](../experiments/table)": "[table](../experiments/table/README.md)",
        "[runs](../experiments/table/runs)": "runs",
        "[data](data.md#named-sets)": "[data](data.md#named-sets)",
        "[elsewhere](https://example.org/a.py)": "[elsewhere](https://example.org/a.py)",
    }.items():
        assert page(link, "docs/usage") == expected
        assert page(f"```\n{link}\n```\n", "docs/usage") == f"```\n{link}\n```\n"


def test_a_broken_link_is_found(extension: Any, tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<p id="there">')
    (tmp_path / "a.html").write_text('<a href="b.html#there"><a href="b.html#not"><img src="c.png"><a href="#no">')
    assert extension("check_links").broken(tmp_path) == ["a.html: #no", "a.html: b.html#not", "a.html: c.png"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_builds_without_warnings_or_broken_links(extension: Any, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", "-d", str(tmp_path / "trees")]
    done = subprocess.run([*build, ".", str(tmp_path / "html")], cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    assert not extension("check_links").broken(tmp_path / "html")
    assert "confval-reg.alpha" in (tmp_path / "html/docs/configuration.html").read_text(encoding="utf-8")
    assert "regicomp.objective.regularizer.Regularizer" in (tmp_path / "html/docs/api/objective.html").read_text()
