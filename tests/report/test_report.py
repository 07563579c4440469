"""`python -m regicomp.report`: its files, what it prints, and what it refuses."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import synthetic
from PIL import Image

from regicomp.data import testsets
from regicomp.evaluation import classical_codecs
from regicomp.report import __main__ as command
from regicomp.report import comparison, cost, figures, page, pictures, published, records, shown_runs, style
from regicomp.report.curves import curves_of


def _report(*arguments: object) -> str:
    """Run the command; what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        command.main([str(argument) for argument in arguments])
    return printed.getvalue()


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A report of a sweep with some faults, and what was printed."""
    folder = tmp_path_factory.mktemp("report")
    sweep = synthetic.sweep(folder / "runs", history=True, testsets=("kodak", "ood/art"), jitter=0.0)
    synthetic.sweep(sweep, savings={0.05: 0.01}, qualities=(2,), jitter=0.0)
    synthetic.write(sweep / "old", {"schema": 7})
    (folder / "void").mkdir()
    out = _report(sweep, folder / "void", "--out", folder / "out", "--no-classical", "--images", 0)
    return folder / "out", out


def test_files(made: tuple[Path, str]) -> None:
    """Tables, figures and page are there."""
    expected = {"bd_rate.csv", "bd_rate.md", "other_codecs.md", "trainings.md", "results.csv", "cost.md", "index.html"}
    expected |= {f"rd_{name}.{suffix}" for name in ("kodak", "ood_art") for suffix in ("png", "pdf")}
    assert {path.name for path in made[0].iterdir()} == expected
    with Image.open(made[0] / "rd_kodak.png") as image:
        assert image.width >= 2000


def test_tables(made: tuple[Path, str]) -> None:
    """bd_rate.csv, bd_rate.md and the terminal say the same number, with anchor, method and overlap."""
    out, printed = made
    rows = _rows(out / "bd_rate.csv")
    (row,) = (
        r for r in rows if (r["testset"], r["metric"], r["alpha"], r["seed"]) == ("kodak", "psnr_db", "0.1", "all")
    )
    assert float(row["bd_rate_percent"]) == pytest.approx(-2, abs=1e-4)
    assert row["method"] == "pchip"
    assert row["anchor"] == "hyperprior, α = 0"
    assert row["overlap"] == "1.000"
    assert row["domain"] == "in-domain"
    assert [
        r["seed"] for r in rows if r["testset"] == "kodak" and r["metric"] == "psnr_db" and r["alpha"] == "0.1"
    ] == [*("all", "0", "1")]
    text = (out / "bd_rate.md").read_text()
    assert "−2.00 [−2.00, −2.00]" in text
    assert "bjontegaard" in text
    assert "| sweep | runs |" in (out / "cost.md").read_text()
    assert "in-domain mean" in text
    assert "unseen mean" in text
    for said in ("−2.00", "pchip", "akima", "overlap", "100%", "in-domain mean of 1", "unseen mean of 1"):
        assert said in printed
    results = _rows(out / "results.csv")
    assert len(results) == 2 * 16 + 2
    assert str(out.parent) not in (out / "results.csv").read_text()  # names of runs, not of folders of this machine


def test_time_spent_counts_each_run_once(tmp_path: Path) -> None:
    """Not each of its test sets; runs without figures are counted apart, and the machines are named."""
    for quality, timing in {
        1: {"training_seconds": 7200.0, "evaluation_seconds": 360.0, "processes": 2, "threads": 3, "trained_on": "A"},
        2: {"training_seconds": 1800.0, "trained_on": "B"},
        3: {},
    }.items():
        content = synthetic.record(quality=quality, testsets=("kodak", "ood/art"))
        synthetic.write(tmp_path / "one" / str(quality), {**content, "timing": timing})
    synthetic.write(tmp_path / "two" / "1", synthetic.record(alpha=0.1))
    found = {c.sweep: c for c in cost.of(records.collect([tmp_path]).measurements)}
    assert found["one"] == cost.Cost("one", 3, 2.5, pytest.approx(0.1), pytest.approx(13.1), 1, "A, B")
    assert found["two"] == cost.Cost("two", 1, 1.0, 0.0, 1.0, 0)


def test_nothing_is_dropped_silently(made: tuple[Path, str]) -> None:
    """Curves without a number and runs that were left out are named in the terminal and on the page."""
    out, printed = made
    html = (out / "index.html").read_text()
    flat = " ".join(printed.split())
    for said in ("the curve has 1 point, 4 are needed", "is a record of schema 7; expected 1", "holds no results.json"):
        assert said in flat
        assert said in html


def test_page_stands_alone(made: tuple[Path, str]) -> None:
    """The page loads nothing: no address in an attribute that a browser follows by itself."""
    html = (made[0] / "index.html").read_text()
    markup = re.sub(r"<script[^>]*>.*?</script>", "", html, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!#|data:)[^"'>\s]+""", markup)
    assert "@import" not in markup
    assert "url(" not in markup


def test_page_escapes_what_users_name(tmp_path: Path) -> None:
    """Names of backbones, variants, test sets, images and folders are text, never markup."""
    evil = "<img src=x onerror=alert(1)>"
    content = synthetic.record(backbone=evil, alpha=0.1, testsets=(f"set{evil}",), variant="</script><b>bold")
    content["testsets"][f"set{evil}"]["images"][0]["name"] = f"{evil}.png"
    synthetic.write(tmp_path / "a&b<i>", content)
    synthetic.write(tmp_path / "old<u>", {"schema": "<u>"})
    collection = records.collect([tmp_path])
    curves, skipped = curves_of(collection.measurements)
    comparisons = comparison.compare(curves, comparison.Options(replicates=100))
    html = page.render(
        page.Content(
            *(
                collection.measurements,
                curves,
                comparisons,
                [],
                comparison.Options(),
                [*collection.skipped, *skipped],
                {},
                [],
            )
        )
    )
    before_plotly = html[: html.index("plotly.js v")]
    for raw in ("<img src=x", "</script><b>", "old<u>", "a&b<i>"):
        assert raw not in before_plotly
    labels = style.names([c.family for c in curves])
    figures.draw(tmp_path / "out", curves, comparisons, {}, labels, style.styles(list(labels)))
    assert len(list((tmp_path / "out").glob("rd_*.png"))) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{void}"], "must hold at least one usable results.json"),
        (["{void}", "--bootstrap", "3"], "`--bootstrap` (=3) must be at least 100"),
        (["{void}", "--min-span", "-1"], "`--min-span` (=-1) must be a finite number of dB, at least 0"),
        (["{void}", "--unseen", "kodak"], "`--in-domain` and `--unseen` must not share kodak"),
    ],
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong option or an empty folder: one line, status 2, nothing written."""
    (tmp_path / "void").mkdir()
    given = [a.format(void=tmp_path / "void") for a in arguments]
    with pytest.raises(SystemExit) as ended:
        command.main([*given, "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_published_curves_have_their_source() -> None:
    """Every published curve rises and says where it comes from."""
    for curve in published.curves():
        assert curve.source
        assert np.all(np.diff(curve.bpp) > 0)
        assert len(curve.bpp) == len(curve.psnr_db) >= 6


def test_history_is_thinned_and_tolerant(tmp_path: Path) -> None:
    """metrics.csv of any length becomes a few hundred rows; cells that are no numbers become gaps."""
    assert page.history(tmp_path) is None
    rows = ["step,rate_bpp,source_bpp,extra", *(f"{k},{1 / k},,x" for k in range(1, 5001)), "torn"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows))
    known = page.history(tmp_path)
    assert known is not None
    assert 200 <= len(known["step"]) <= 300
    assert all(v is None for v in known["source_bpp"])
    assert known["rate_bpp"][0] == pytest.approx(1)


def test_styles_tell_curves_apart() -> None:
    """No two curves of one figure look the same, and what both backbones share looks alike."""
    families = [
        records.Family(
            backbone, backbone if alpha else None, alpha, "mse", None, None, records.Budget(steps, None, None, None)
        )
        for backbone in ("hyperprior", "elic", "mlicpp")
        for alpha in (0.0, 0.05, 0.1, 0.3)
        for steps in (1000, 2000)
    ]
    looks = style.styles(families)
    assert len(set(looks.values())) == len(families)
    assert len(set(style.names(families).values())) == len(families)
    dashes = {(f.alpha, f.backbone): looks[f].dash for f in families}
    assert dashes[0.1, "elic"] == dashes[0.1, "mlicpp"]


def test_anchor_curves_are_kept(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A measured curve is kept by the images' content; a changed image is measured anew, a broken file too."""
    monkeypatch.setenv("REGICOMP_CACHE", str(tmp_path))
    (found,) = testsets.find([], "", [str(folder)])
    found = found._replace(images=found.images[:2])
    jpeg = classical_codecs.JPEG._replace(qualities=(10, 50, 90))
    first = classical_codecs.cached(jpeg, found)
    assert [p["bpp"] for p in first] == [p["bpp"] for p in classical_codecs.curve(jpeg, found)]
    (kept,) = (tmp_path / "anchors").iterdir()
    content = json.loads(kept.read_text())
    content[0]["bpp"] = 123.0
    kept.write_text(json.dumps(content))
    assert classical_codecs.cached(jpeg, found)[0]["bpp"] == 123.0
    kept.write_text("{")
    assert classical_codecs.cached(jpeg, found)[0]["bpp"] == first[0]["bpp"]
    other = found._replace(images=[found.images[0], found.images[1]._replace(load=found.images[0].load)])
    classical_codecs.cached(jpeg, other)
    assert len(list((tmp_path / "anchors").iterdir())) == 2


def test_classical_codecs_code(folder: Path) -> None:
    """Every classical codec's quality rises with its rate, and decodes to the image's size."""
    (found,) = testsets.find([], "", [str(folder)])
    for codec in classical_codecs.classical():
        few = codec._replace(qualities=(codec.qualities[0], codec.qualities[len(codec.qualities) // 2], 80))
        points = classical_codecs.curve(few, found._replace(images=found.images[:1]))
        assert [p["bpp"] for p in points] == sorted(p["bpp"] for p in points)
        assert [p["psnr_db"] for p in points] == sorted(p["psnr_db"] for p in points)
        pixels = found.images[0].load()
        assert codec.decode(codec.encode(pixels, 50)).shape == pixels.shape


def test_pictures_show_what_the_codec_did(finished_codec: Path, folder: Path) -> None:
    """The reconstruction is the evaluation's; the bits of y and the rest add up to the estimated rate."""
    from regicomp.evaluation import round_trip
    from regicomp.image_codec import model_file

    codec = round_trip.Codec(model_file.load_codec(finished_codec))
    (found,) = testsets.find([], "", [str(folder)])
    pixels = found.images[0].load()
    coded = pictures.code(codec, pixels)
    expected, estimated = codec.reconstruct(pixels)
    np.testing.assert_array_equal(coded.x_hat, round_trip.to_pixels(expected))
    assert coded.bits.shape == (math.ceil(80 / 16), math.ceil(96 / 16))
    padded = np.prod(codec.pad(round_trip.to_tensor(pixels)).shape[-2:])
    assert coded.bits.sum() * 256 / pixels[..., 0].size + coded.rest_bpp <= estimated * (1 + 1e-6)
    assert padded >= pixels[..., 0].size
    shown = page.pictures_of("set", "0.png", pixels, {"run": coded})
    for uri in (shown.original, shown.of_runs[0].x_hat, shown.of_runs[0].error, shown.of_runs[0].bits):
        assert uri.startswith("data:image/webp;base64,")


@pytest.fixture(scope="module")
def finished_codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained tiny codec as a file."""
    import torch

    from regicomp.image_codec import model_file

    torch.manual_seed(0)
    spec = model_file.Spec("compressai.models.ScaleHyperprior", {"N": 16, "M": 24})
    path = tmp_path_factory.mktemp("codec") / "codec.safetensors"
    model_file.save_codec(path, model_file.build(spec, "backbone"), spec, {})
    return path


def test_missing_images_are_told_without_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for root in ("data", str(tmp_path / "data")):
        found, why = shown_runs.find_images("screen", [], root, [])
        assert found is None
        assert why is not None
        assert "DIR/ood/screen does not exist" in why
        assert "`data.root`" in why
        assert str(tmp_path) not in why
