"""`python -m regicomp.fetch` against a server that cuts, lies, refuses and dawdles."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bad_server import Server
from PIL import Image

from regicomp import fetch
from regicomp.data import download, manifest, named_sets, testsets, unpack
from regicomp.data.download import Patience, Progress, Wanted
from regicomp.data.manifest import LOCK, Archive, File, Manifest

QUICK = Patience(attempts=3, wait=0.01, timeout=0.5)
NOISE = np.random.default_rng(0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


DATA = NOISE.bytes(300_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


def _get(target: Path, *urls: str, size: int | None = len(DATA), digest: str | None = DIGEST) -> int:
    """Fetch, and say what the progress bar ended at."""
    shown = [0]

    def advance(count: int) -> None:
        shown[0] += count

    wanted = Wanted(target, urls, size, digest)
    download.fetch(wanted, Progress(advance, lambda _: None), threading.Event(), QUICK)
    assert [p.name for p in target.parent.iterdir()] == [target.name]
    return shown[0]


def test_a_cut_connection_is_resumed_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.content["/a"] = DATA
    server.cut_after, server.cuts_left, server.etag = 100_000, 2, '"one"'
    assert _get(tmp_path / "a", f"{server.url}/a") == len(DATA)
    assert (tmp_path / "a").read_bytes() == DATA
    starts = [int(r.removeprefix("bytes=").rstrip("-")) for _, r in server.requests if r]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1]


def test_without_ranges_it_starts_anew(server: Server, tmp_path: Path) -> None:
    server.content["/a"] = DATA
    server.cut_after, server.cuts_left, server.ranges = 100_000, 2, False
    assert _get(tmp_path / "a", f"{server.url}/a") == len(DATA)
    assert (tmp_path / "a").read_bytes() == DATA


def test_a_later_start_goes_on_with_what_arrived(server: Server, tmp_path: Path) -> None:
    server.content["/a"] = DATA
    wanted = Wanted(tmp_path / "a", (f"{server.url}/a",), len(DATA), DIGEST)
    stop = threading.Event()
    with pytest.raises(ValueError, match="stopped"):
        download.fetch(wanted, Progress(lambda count: count and stop.set(), lambda _: None), stop, QUICK)
    kept = (tmp_path / ".a.part").stat().st_size
    assert 0 < kept < len(DATA)
    assert not (tmp_path / "a").exists()
    assert _get(tmp_path / "a", f"{server.url}/a") == len(DATA)
    assert server.requests[-1][1] is not None


def test_a_file_that_changed_in_between_is_fetched_whole(server: Server, tmp_path: Path) -> None:
    server.content["/a"] = DATA
    (tmp_path / ".a.part").write_bytes(bytes(50_000))
    (tmp_path / ".a.part.etag").write_text('"old"')
    server.etag = '"new"'
    assert _get(tmp_path / "a", f"{server.url}/a", size=None, digest=None) == len(DATA)
    assert (tmp_path / "a").read_bytes() == DATA


def test_a_rotten_part_is_thrown_away_once(server: Server, tmp_path: Path) -> None:
    server.content["/a"] = DATA
    (tmp_path / ".a.part").write_bytes(bytes(50_000))
    assert _get(tmp_path / "a", f"{server.url}/a") == len(DATA)
    assert (tmp_path / "a").read_bytes() == DATA


@pytest.mark.parametrize("cut", [False, True])
def test_a_wrong_byte_is_told_with_both_digests_and_removed(server: Server, tmp_path: Path, cut: bool) -> None:
    server.content["/a"] = DATA
    server.flip["/a"] = 123
    if cut:
        server.cut_after, server.cuts_left = 100_000, 1
    with pytest.raises(ValueError, match=r"a: SHA-256 is [0-9a-f]{64}, expected " + DIGEST):
        _get(tmp_path / "a", f"{server.url}/a")
    assert list(tmp_path.iterdir()) == []


def test_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    server.content |= {"/wrong": DATA, "/right": DATA}
    server.flip["/wrong"] = 5
    assert _get(tmp_path / "a", *(f"{server.url}/{name}" for name in ("none", "wrong", "right"))) == len(DATA)


def test_passing_errors_are_borne_and_final_ones_not(server: Server, tmp_path: Path) -> None:
    server.content["/a"] = DATA
    server.errors = [503, 429]
    _get(tmp_path / "a", f"{server.url}/a")
    before = len(server.requests)
    with pytest.raises(ValueError, match=r"b: the server answers 404 .*/b\]"):
        _get(tmp_path / "b", f"{server.url}/b")
    assert len(server.requests) == before + 1
    server.errors = [503] * 3
    with pytest.raises(ValueError, match=r"answers 503 .*, 3 times in a row"):
        _get(tmp_path / "b", f"{server.url}/a")


def test_a_slow_server_is_waited_for_and_a_dead_one_is_not(server: Server, tmp_path: Path) -> None:
    server.content["/a"] = DATA
    server.stall = 0.2
    _get(tmp_path / "a", f"{server.url}/a")
    server.stall, server.ranges = 1.5, False
    with pytest.raises(ValueError, match=r"timed out, 3 times in a row"):
        _get(tmp_path / "b", f"{server.url}/a")
    with pytest.raises(ValueError, match=r"refused, 3 times in a row"):
        _get(tmp_path / "b", "http://127.0.0.1:9/a")


def test_more_bytes_than_recorded_are_not_taken(server: Server, tmp_path: Path) -> None:
    server.content["/a"] = DATA
    with pytest.raises(ValueError, match="sends more than the 1000 bytes"):
        _get(tmp_path / "a", f"{server.url}/a", size=1000)
    assert list(tmp_path.iterdir()) == []


# ---- whole sets


def _png(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = {f"{k}.png": _png(k) for k in range(5)}


def _about(archives: tuple[Archive, ...] = (), urls: tuple[str, ...] = ()) -> Manifest:
    entries = tuple(File(n, len(d), 32, 24, hashlib.sha256(d).hexdigest()) for n, d in IMAGES.items())
    return Manifest("tiny", "t", "tiny", "s", "l", "", 5, () if archives else entries, urls, archives, "")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Manifest]:
    """Sets that exist for one test."""
    sets: dict[str, Manifest] = {}
    monkeypatch.setattr(manifest, "names", lambda: sorted(sets))
    monkeypatch.setattr(manifest, "_load", lambda name: sets[name])
    return sets


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_a_set_is_fetched_mended_and_verified(
    server: Server, tmp_path: Path, known: dict[str, Manifest], capsys: pytest.CaptureFixture[str]
) -> None:
    known["tiny"] = _about(urls=(server.url + "/there/{path}",))
    server.content = {f"/there/{name}": data for name, data in IMAGES.items()}
    with pytest.raises(ValueError, match=r"python -m regicomp\.fetch tiny --root"):
        testsets.find(["tiny"], str(tmp_path), [])
    assert not named_sets.fetch("tiny", tmp_path, verify_only=True)
    assert named_sets.fetch("tiny", tmp_path, patience=QUICK)
    assert {p.name: p.read_bytes() for p in (tmp_path / "tiny").iterdir()} == IMAGES
    (found,) = testsets.find(["tiny"], str(tmp_path), [])
    assert [image.name for image in found.images] == sorted(IMAGES)
    server.requests.clear()
    assert named_sets.fetch("tiny", tmp_path, patience=QUICK)
    assert server.requests == []  # nothing was missing
    (tmp_path / "tiny" / "1.png").write_bytes(IMAGES["1.png"][:-1])
    with pytest.raises(ValueError, match=r"1\.png: has \d+ bytes, expected \d+; `python -m regicomp\.fetch tiny"):
        testsets.find(["tiny"], str(tmp_path), [])
    (tmp_path / "tiny" / "2.png").write_bytes(IMAGES["2.png"][:-1] + b"x")
    capsys.readouterr()
    assert not named_sets.fetch("tiny", tmp_path, verify_only=True)
    assert "2.png: SHA-256 is" in capsys.readouterr().out
    assert named_sets.fetch("tiny", tmp_path, patience=QUICK)
    assert sorted(path for path, _ in server.requests) == ["/there/1.png", "/there/2.png"]


def test_a_mirror_stands_in_for_the_source(server: Server, tmp_path: Path, known: dict[str, Manifest]) -> None:
    known["tiny"] = _about()
    with pytest.raises(ValueError, match="no public place holds them"):
        named_sets.fetch("tiny", tmp_path, patience=QUICK)
    server.content = {f"/m/tiny/{name}": data for name, data in IMAGES.items()}
    assert named_sets.fetch("tiny", tmp_path, mirror=f"{server.url}/m/", patience=QUICK)


def test_one_failure_ends_the_download_and_keeps_the_rest(
    server: Server, tmp_path: Path, known: dict[str, Manifest]
) -> None:
    known["tiny"] = _about(urls=(server.url + "/{path}",))
    server.content = {f"/{name}": data for name, data in IMAGES.items() if name != "3.png"}
    with pytest.raises(ValueError, match=r"3\.png: the server answers 404"):
        named_sets.fetch("tiny", tmp_path, jobs=1, patience=QUICK)
    assert {"0.png", "1.png", "2.png"} <= {p.name for p in (tmp_path / "tiny").iterdir()}


@pytest.mark.parametrize("pack", [_zip, _tar])
def test_an_archive_is_trusted_once_and_held_to_it(
    server: Server, tmp_path: Path, known: dict[str, Manifest], capsys: pytest.CaptureFixture[str], pack: object
) -> None:
    packed = pack(
        {"top/valid/" + n: d for n, d in IMAGES.items()} | {"__MACOSX/valid/._0.png": b"x", "top/a.txt": b"y"}
    )  # pyright: ignore
    known["tiny"] = _about((Archive(f"{server.url}/set.bin", "valid/", None, None),))
    server.content["/set.bin"] = packed
    assert named_sets.fetch("tiny", tmp_path, patience=QUICK)
    assert "no digest of this set is known beforehand" in capsys.readouterr().out
    folder = tmp_path / "tiny"
    assert {p.name for p in folder.iterdir()} == {*IMAGES, LOCK}
    lock = json.loads((folder / LOCK).read_text())
    assert lock["archive"]["sha256"] == hashlib.sha256(packed).hexdigest()
    assert not lock["archive"]["digest_known_before"]
    assert len(testsets.find(["tiny"], str(tmp_path), [])[0].images) == 5
    # Lost, then offered with another byte: the first fetch's digests hold.
    (folder / "4.png").unlink()
    server.content["/set.bin"] = pack({"valid/" + n: d for n, d in IMAGES.items()} | {"valid/4.png": _png(9)})  # pyright: ignore
    with pytest.raises(ValueError, match=r"4\.png: .*expected .* written at the first fetch"):
        named_sets.fetch("tiny", tmp_path, patience=QUICK)
    server.content["/set.bin"] = packed
    assert named_sets.fetch("tiny", tmp_path, patience=QUICK)


def test_an_archive_with_too_few_images_leaves_nothing(
    server: Server, tmp_path: Path, known: dict[str, Manifest]
) -> None:
    known["tiny"] = _about((Archive(f"{server.url}/set.zip", None, None, None),))
    server.content["/set.zip"] = _zip({"0.png": IMAGES["0.png"]})
    with pytest.raises(ValueError, match="holds 1 images, expected the 5"):
        named_sets.fetch("tiny", tmp_path, patience=QUICK)
    assert list((tmp_path / "tiny").iterdir()) == []


@pytest.mark.parametrize("pack", [_zip, _tar])
@pytest.mark.parametrize("name", ["valid/../../out.png", "valid//etc/out.png", "valid/a\\..\\out.png"])
def test_paths_that_lead_outside_are_refused(tmp_path: Path, pack: object, name: str) -> None:
    (tmp_path / "a").write_bytes(pack({name: b"x"}))  # pyright: ignore
    with pytest.raises(ValueError, match="leads outside"):
        unpack.images(tmp_path / "a", "valid/", tmp_path / "in" / "deep")
    assert [p.name for p in tmp_path.rglob("*.png")] == []


def test_links_and_bombs_and_rubble_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        info = tarfile.TarInfo("a.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(ValueError, match="holds no image"):
        unpack.images(tmp_path / "link.tar", None, tmp_path / "out")
    (tmp_path / "cut.zip").write_bytes(_zip(IMAGES)[:200])
    with pytest.raises(ValueError, match="damaged or no zip or tar"):
        unpack.images(tmp_path / "cut.zip", None, tmp_path / "out")
    damaged = bytearray(_zip(IMAGES))
    damaged[100] ^= 1
    (tmp_path / "bad.zip").write_bytes(damaged)
    with pytest.raises(ValueError, match="damaged"):
        unpack.images(tmp_path / "bad.zip", None, tmp_path / "out")
    monkeypatch.setattr(unpack, "_MOST_BYTES", 100)
    (tmp_path / "big.zip").write_bytes(_zip(IMAGES))
    with pytest.raises(ValueError, match="goes beyond"):
        unpack.images(tmp_path / "big.zip", None, tmp_path / "out")


def test_a_full_disk_is_seen_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"MB free; .* MB are needed"):
        download.free_enough(tmp_path / "not" / "yet", 2**60)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["kodka"], r"`NAME` (=kodka) must be one of art, bsds500, clic, kodak, medical, satellite, screen, tecnick"),
        ([], "`NAME` must be one or several of art"),
        (["kodak", "--jobs", "0"], "`--jobs` (=0)"),
        (["kodak", "--mirror", "file:///etc"], "`--mirror` (=file:///etc) must begin with http"),
        (["screen"], "no public place holds them"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as end:
        fetch.main([*arguments, "--root", str(tmp_path)])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
