"""The wheel and the source archive carry what an installed package needs, and say whose they are."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest
import yaml

import regicomp

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the wheel and the source archive."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(out)], cwd=PROJECT, check=True, timeout=120)
    return out


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def test_wheel(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    about = _metadata(wheel)
    assert about["License-Expression"] == "Apache-2.0 AND CC0-1.0 AND CC-BY-2.0"
    assert about["Author"] == "the regicomp authors"
    assert set(about["Requires-Python"].split(",")) == {">=3.11", "<3.13"}
    assert "learned compression" in about["Keywords"]
    classifiers = about.get_all("Classifier")
    assert classifiers
    assert "Typing :: Typed" in classifiers
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    inside = {"regicomp/py.typed", "regicomp/conf/train.yaml", "regicomp/pretrained/codec.safetensors"}
    inside |= {"regicomp/data/photos/LICENSES.md", "regicomp/data/photos/china.jpg"}
    assert inside <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_source_archive(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.split("/", 1)[1] for name in opened.getnames()}
    assert {"LICENSE", "CITATION.cff", "pyproject.toml", "conf/train.yaml", "regicomp/py.typed"} <= names


def test_citation_names_this_version() -> None:
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    found = re.search(r'^version = "([^"]+)"', (PROJECT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    assert citation["version"] == found[1]
    assert citation["license"] == "Apache-2.0"
    assert (Path(regicomp.__file__).parent / "py.typed").is_file()
