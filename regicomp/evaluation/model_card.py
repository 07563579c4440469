"""A codec's card: how it is built, what it was trained on and how far, what it reaches, under which licence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import regicomp
from regicomp.backbone import variable_rate
from regicomp.evaluation import record
from regicomp.image_codec import model_file, trust
from regicomp.image_codec.container import FINGERPRINT_BYTES
from regicomp.image_codec.model_file import Loaded
from regicomp.utils import files

NAME = "codec.md"  # beside codec.safetensors
_UNKNOWN = "not recorded"
_NO_LICENCE = "not stated by whoever trained it (`license=` of a training)"


def text(loaded: Loaded, path: Path, measured: Mapping[str, Any] | None = None) -> str:
    """The card in Markdown.

    Args:
        loaded: the codec.
        path: its file, for its size and name.
        measured: the record of the run that made it, for its figures.
    """
    run, network = loaded.run, loaded.network
    lines = [f"# {run.get('backbone', type(network).__name__)}, {_rate(loaded)}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {' '.join(str(value).split())} |" for name, value in _rows(loaded, path)]
    if measured is not None:
        lines += ["", *_figures(dict(measured))]
    lines += ["", "```", f"regicomp codec encode photo.png photo.rgc --model {path.name}", "```"]
    return "\n".join(lines) + "\n"


def _rate(loaded: Loaded) -> str:
    gains = variable_rate.gains_of(loaded.network)
    if gains is not None:
        return f"λ = {', '.join(f'{v:g}' for v in gains.lambdas.tolist())} (qualities 1 to {gains.levels})"
    lmbda = loaded.run.get("lmbda")
    return f"λ {_UNKNOWN}" if lmbda is None else f"λ = {lmbda:g}"


def _rows(loaded: Loaded, path: Path) -> Iterator[tuple[str, Any]]:
    run, spec = loaded.run, loaded.spec
    sizes = ", ".join(f"{name}={value}" for name, value in spec.arguments.items())
    parameters = sum(p.numel() for p in loaded.network.parameters())
    yield "architecture", f"`{spec.target}`" + (f" with {sizes}" if sizes else "")
    yield "parameters", f"{parameters:,} in {path.stat().st_size / 2**20:.1f} MB"
    yield "rate", _rate(loaded)
    yield "distortion", run.get("distortion", _UNKNOWN)
    yield "regularizer", _regularizer(run)
    yield "training data", _data(run)
    optimizer = f", {run['optimizer']}" if "optimizer" in run else ""
    early = record.stopped_early(run)
    yield "updates", f"{run['steps']:,}{optimizer}{early}" if "steps" in run else _UNKNOWN
    yield "seed", run.get("seed", _UNKNOWN)
    made = run.get("versions")
    yield "made with", ", ".join(f"{k} {v}" for k, v in made.items()) if isinstance(made, Mapping) else _UNKNOWN
    shipped = model_file.load_codec(regicomp.SHIPPED).fingerprint if not run.get("license") else b""
    yield "licence", run.get("license") or ("Apache-2.0" if loaded.fingerprint == shipped else _NO_LICENCE)
    yield "fingerprint", f"`{loaded.fingerprint[:FINGERPRINT_BYTES].hex()}`, which its .rgc files bear"


def _regularizer(run: Mapping[str, Any]) -> str:
    if run.get("alpha") is None:
        return _UNKNOWN
    if not run["alpha"]:
        return "none (α = 0)"
    return f"{record.strength(run)}, q_θ of the family {run.get('source')}"


def _data(run: Mapping[str, Any]) -> str:
    data = run.get("data")
    if data is None:
        return _UNKNOWN
    named = ", ".join(map(str, data)) if isinstance(data, list) else str(data)
    return named + (f"; {run['batch_size']} crops of {run['crop']}² an update" if "crop" in run else "")


def _figures(measured: dict[str, Any]) -> Iterator[str]:
    """A table of the record's points on each test set: bytes as coded, headers included."""
    yield "| test set | quality | bpp | PSNR dB | MS-SSIM | images |"
    yield "|---|---|---|---|---|---|"
    points = record.points(measured)
    for testset in points[0].testsets:
        for point in points:
            entry = point.testsets[testset]
            quality = f"{point.quality:g}" if len(points) > 1 and point.quality is not None else "-"
            ms_ssim = "-" if entry["ms_ssim"] is None else f"{entry['ms_ssim']:.4f}"
            cells = (testset, quality, f"{entry['bpp']:.4f}", f"{entry['psnr_db']:.3f}", ms_ssim, len(entry["images"]))
            yield f"| {' | '.join(map(str, cells))} |"


def of_file(path: Path, trusted: tuple[str, ...] = ()) -> str:
    """The card of a codec's file, or of the folder of a run, with the figures of the record beside it, if it has one.

    Raises:
        ValueError: see `model_file.load_codec`.
    """
    loaded = model_file.load_codec(path, trusted)
    path = path / "codec.safetensors" if path.is_dir() else path
    beside, measured = path.with_name("results.json"), None
    if beside.is_file() and "config_hash" in loaded.run:
        found = record.read(beside)
        measured = found if found["run"].get("config_hash") == loaded.run["config_hash"] else None
    return text(loaded, path, measured)


def print_all(paths: Sequence[Path], trusted: Sequence[str]) -> None:
    """Print the cards of these models; `trusted` as `of_file`.

    Raises:
        ValueError: see `of_file`; or `trusted` names no modules.
    """
    print("\n".join(of_file(path, trust.modules(trusted)) for path in paths), end="")


def write(path: Path, trusted: tuple[str, ...] = ()) -> None:
    """Write the card of a codec's file beside it."""
    files.write_bytes(path.with_name(NAME), of_file(path, trusted).encode())
