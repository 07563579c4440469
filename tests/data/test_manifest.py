"""The manifests that are shipped, and the folders they are held against."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

import pytest

from regicomp.data import manifest, testsets

SEEN = ("art", "bsds500", "kodak", "medical", "satellite", "screen")
AT_HAND = pytest.mark.skipif(
    "REGICOMP_DATA" not in os.environ,
    reason="the images are not part of the project: set REGICOMP_DATA to the folder that holds kodak/ and the others",
)


def test_the_sets_of_the_design_have_manifests() -> None:
    assert manifest.names() == sorted((*SEEN, "clic", "tecnick"))


@pytest.mark.parametrize("name", manifest.names())
def test_a_manifest_is_complete(name: str) -> None:
    about = manifest.load(name)
    assert about.name == name
    assert about.available_at
    assert about.licence
    assert about.images > 0
    assert len(about.files) in (about.images, 0)
    assert bool(about.files) != bool(about.archives)
    for file in about.files:
        assert len(file.sha256) == 64
        assert min(file.bytes, file.width, file.height) > 0
        assert ".." not in PurePosixPath(file.path).parts
        assert all(url.startswith("https://") for url in (*file.urls, *about.urls))
    assert len({file.path for file in about.files}) == len(about.files)
    for archive in about.archives:  # what nobody here has seen is not made up
        assert archive.url.startswith("https://")
        assert (archive.sha256 is None) == (archive.bytes is None)


def test_numbers_of_images() -> None:
    counts = {name: manifest.load(name).images for name in manifest.names()}
    assert counts["kodak"] == 24
    assert counts["clic"] == 41
    assert counts["tecnick"] == 100
    assert counts["bsds500"] == 500
    assert len(manifest.load("bsds500").tested()) == 100


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`NAME` \(=kodka\) must be one of art"):
        manifest.load("kodka")


@AT_HAND
@pytest.mark.parametrize("name", SEEN)
def test_the_sets_at_hand_are_what_the_manifests_say(name: str) -> None:
    root = Path(os.environ["REGICOMP_DATA"])
    about = manifest.load(name)
    assert manifest.faults(about.files, root / about.folder, lambda _: None) == []
    (found,) = testsets.find([name], str(root), [])
    assert found.name == name
    assert len(found.images) == (100 if name == "bsds500" else about.images)
    for image, file in zip(found.images, about.tested(), strict=True):
        assert image.name == file.path


@AT_HAND
def test_what_is_beside_a_set_is_not_measured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    about = manifest.load("art")
    copy = tmp_path / "art"  # found under its name as well as under ood/
    copy.mkdir()
    for file in about.files:
        shutil.copy(Path(os.environ["REGICOMP_DATA"]) / about.folder / file.path, copy)
    shutil.copy(copy / about.files[0].path, copy / "mine.png")
    (found,) = testsets.find(["art"], str(tmp_path), [])
    assert len(found.images) == about.images
    assert "mine.png" in caplog.text


def test_a_missing_set_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`testsets` \(=kodak\).*python -m regicomp\.fetch kodak --root"):
        testsets.find(["kodak"], str(tmp_path), [])


def test_a_set_put_there_by_hand_is_counted(tmp_path: Path) -> None:
    (tmp_path / "clic").mkdir()
    (tmp_path / "clic" / "a.png").write_bytes(b"x")
    with pytest.raises(ValueError, match="holds 1 images, expected the 41 of clic"):
        testsets.find(["clic"], str(tmp_path), [])
