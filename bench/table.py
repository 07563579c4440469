"""Our training step against CompressAI's example loop for the five backbones: time, memory, FLOPs, data loading.

`python -m bench.table [--backbones hyperprior …] [--parts costs steps pair memory data scaling compile]
[--rounds 3] [--batch 4] [--crop 256] [--precisions float32 bf16] [--size paper] [--again] [--out bench]`

Every measurement runs in a process of its own and is written to results.json at once; one that is there already for
the same settings and machine is not repeated (`--again` does). The table goes into README.md between its markers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from regicomp.utils import files

BACKBONES = ("hyperprior", "autoregressive", "attention", "elic", "mlicpp")
PARTS = ("costs", "steps", "pair", "memory", "data", "scaling", "compile")
BEGIN, END = "<!-- bench.table begin -->", "<!-- bench.table end -->"
CROPS, BATCHES = (128, 256, 384, 512), (1, 2, 4, 8)


def _measured(arguments: argparse.Namespace, results: dict[str, Any], measure: str, **asked: Any) -> None:
    """Measure in a child process, unless there is a result already, and write the results."""
    rounds = {} if measure == "costs" else {"rounds": arguments.rounds}  # counted once, whatever the rounds
    asked = {"measure": measure, "size": arguments.size, **rounds, **asked}
    key = json.dumps(asked, sort_keys=True)
    if "error" not in results["rows"].get(key, {"error": None}) and not arguments.again:
        return
    print(f"measuring {key}", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "bench.rows", key], capture_output=True, text=True)
    if done.returncode:
        results["rows"][key] = {"error": (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]}
    else:
        results["rows"][key] = json.loads(done.stdout.strip().splitlines()[-1])
    files.write_json(arguments.out / "results.json", {**_others(arguments.out), "table": results})


def _others(folder: Path) -> dict[str, Any]:
    """The entries of results.json besides the table, which bench.train_step writes."""
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


def measure_all(arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    """Every measurement that was asked for."""
    shape = {"batch": arguments.batch, "crop": arguments.crop}
    for backbone in arguments.backbones:
        loops = ["example", "plain", "regularized"] if backbone != "mlicpp" else ["plain", "regularized"]
        if "costs" in arguments.parts:
            _measured(arguments, results, "costs", backbone=backbone, **shape)
        for precision in arguments.precisions:
            row = {"backbone": backbone, "precision": precision, **shape}
            if "steps" in arguments.parts:
                _measured(arguments, results, "steps", **row)
            if "pair" in arguments.parts:
                _measured(arguments, results, "pair", optimizer="soap", **row)
            if "memory" in arguments.parts:
                for variant in loops:
                    _measured(arguments, results, "memory", variant=variant, **row)
            if "compile" in arguments.parts:
                _measured(arguments, results, "compiling", **row)
    if "data" in arguments.parts:
        _measured(arguments, results, "loading", backbone="hyperprior", crops=arguments.data_crops, **shape)
    if "scaling" in arguments.parts:
        row = {"backbone": arguments.backbones[0], "precision": arguments.precisions[0], "variant": "regularized"}
        for crop in arguments.crops:
            _measured(arguments, results, "memory", batch=arguments.batches[0], crop=crop, **row)
        for batch in arguments.batches:
            _measured(arguments, results, "memory", batch=batch, crop=arguments.crops[0], **row)


def _rows(results: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(json.loads(key), value) for key, value in results["rows"].items()]


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def render(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    machine = ", ".join(f"{key}: {value}" for key, value in results["machine"].items())
    commands: dict[str, dict[str, str]] = results["commands"]
    said = [f"- {part}: `python -m bench.table {c['arguments']}`, {c['date']}" for part, c in commands.items()]
    parts = [machine, "\n".join(said)]
    rows = _rows(results)

    def find(**wanted: Any) -> dict[str, Any]:
        found = [value for asked, value in rows if all(asked.get(k) == v for k, v in wanted.items())]
        return found[-1] if found else {}

    table: list[list[str]] = []
    for asked, value in rows:
        if asked["measure"] != "steps":
            continue
        backbone = f"{asked['backbone']} ({asked['size']})" if asked["size"] != "paper" else asked["backbone"]
        label = [backbone, asked["precision"], f"{asked['batch']} × {asked['crop']}²"]
        if "error" in value:
            table.append([*label, *["-"] * 9, value["error"].replace("|", "/")])
            continue
        same = {k: asked[k] for k in ("backbone", "batch", "crop", "size")}
        cost, speed, seconds = find(measure="costs", **same), value["samples_per_second"], value["seconds"]
        peaks = [
            find(measure="memory", variant=v, precision=asked["precision"], **same).get("peak_gib")
            for v in ("example", "plain", "regularized")
        ]
        share = 100 * cost["source_gflops"] / cost["gflops"] if "gflops" in cost else None
        table.append(
            [
                *label,
                *(_number(speed.get(v), 2) for v in ("example", "plain", "regularized")),
                _number(seconds["example"] / seconds["plain"] if "example" in seconds else None, 2),
                _number(seconds["regularized"] / seconds["plain"], 2),
                f"{cost['parameters'] / 1e6:.2f} + {cost['source_parameters'] / 1e6:.2f}" if cost else "-",
                f"{cost['gflops']:.1f} + {cost['source_gflops']:.1f}" if "gflops" in cost else "-",
                _number(share, 0),
                " / ".join(_number(p, 2) for p in peaks),
            ]
        )
    header = ["backbone", "precision", "batch", "example", "plain", "regularized", "plain / example"]
    header += ["regularized step / plain step", "parameters M, codec + q_θ", "GFLOPs a crop, codec + q_θ"]
    header += ["q_θ % of FLOPs", "peak GiB, example / plain / regularized"]
    if table:
        parts.append("Samples a second (CompressAI's example loop is float32; the others as the row says):")
        parts.append(_markdown(header, table))
    parts += _pairs(rows) + _loading(rows) + _scaling(rows) + _compiling(rows)
    return "\n\n".join(parts)


def _pairs(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    lines: list[list[str]] = []
    for asked, value in rows:
        if asked["measure"] == "pair" and "error" not in value:
            plain, regularized = value["plain"], value["regularized"]
            label = [asked["backbone"], asked["precision"], f"{asked['batch']} × {asked['crop']}²"]
            lines.append([*label, f"{plain:.2f}", f"{regularized:.2f}", f"{regularized / plain:.2f}"])
    header = ["backbone", "precision", "batch", "plain", "regularized", "regularized / plain"]
    said = "Processor seconds of an update under SOAP, the mean of ten, one of which renews the eigenvectors:"
    return [said, _markdown(header, lines)] if lines else []


def _loading(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    parts: list[str] = []
    for asked, value in rows:
        if asked["measure"] != "loading" or "error" in value:
            continue
        needs = [
            v["samples_per_second"]["plain"]
            for a, v in rows
            if a["measure"] == "steps"
            and "error" not in v
            and (a["batch"], a["crop"]) == (asked["batch"], asked["crop"])
        ]
        fastest = max(needs) if needs else None
        lines = [
            [name, f"{speed:.0f}", _number(speed / fastest if fastest else None, 1)]
            for name, speed in value["crops_per_second"].items()
        ]
        parts.append(f"Data loading alone, crops of {asked['crop']}²:")
        parts.append(_markdown(["source", "crops a second", "times what the fastest step above takes"], lines))
    return parts


def _scaling(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    of_backbone: dict[str, set[tuple[int, int, float, float, float]]] = {}
    for a, v in rows:
        if a["measure"] == "memory" and a.get("variant") == "regularized" and "error" not in v:
            point = (a["batch"], a["crop"], a["batch"] * a["crop"] ** 2 / 1e6, v["peak_gib"], v["seconds"])
            of_backbone.setdefault(f"{a['backbone']}, {a['precision']}", set()).add(point)
    parts: list[str] = []
    for name, found in of_backbone.items():
        points = sorted(found, key=lambda p: p[2])
        if len({p[2] for p in points}) < 3:
            continue
        lines = [[str(b), f"{c}²", f"{m:.3f}", f"{gib:.2f}", f"{s:.3f}"] for b, c, m, gib, s in points]
        said: list[str] = []
        for what, unit, k in (("peak memory", "GiB", 3), ("time", "s", 4)):
            slope, constant, worst = straight_line([p[2] for p in points], [p[k] for p in points])
            line = f"{constant:.2f} {unit} + {slope:.2f} {unit} a megapixel"
            said.append(f"{what} = {line}, off by at most {100 * worst:.0f} %")
        parts += [
            f"Memory and time of the regularized step against batch and crop, {name}:",
            _markdown(["batch", "crop", "megapixels", "peak GiB", "seconds"], lines),
            "; ".join(said) + ".",
        ]
    return parts


def _compiling(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    lines: list[list[str]] = []
    for asked, value in rows:
        if asked["measure"] == "compiling" and "error" not in value:
            first, usual, compiled = (value[key] for key in ("first_seconds", "usual", "compiled"))
            earned = f"{first / (usual - compiled):.0f}" if compiled < usual else "never"
            label = [asked["backbone"], asked["precision"], f"{asked['batch']} × {asked['crop']}²"]
            lines.append([*label, f"{first:.1f}", f"{compiled:.3f}", f"{usual:.3f}", f"{usual / compiled:.2f}", earned])
    header = ["backbone", "precision", "batch", "first update, s", "later ones, s", "without, s", "times as fast"]
    said = "`compile=true`, the regularized step:"
    return [said, _markdown([*header, "updates that earn it back"], lines)] if lines else []


def straight_line(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Slope and constant of the least-squares line, and its largest relative error."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    constant = mean_y - slope * mean_x
    worst = max(abs(constant + slope * a - b) / b for a, b in zip(x, y, strict=True))
    return slope, constant, worst


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=BACKBONES)
    parser.add_argument("--parts", nargs="+", default=["costs", "steps", "memory", "data"], choices=PARTS)
    parser.add_argument("--precisions", nargs="+", default=None, choices=("float32", "bf16"), help="of our steps")
    parser.add_argument("--size", default="paper", choices=("paper", "tiny"))
    for flag, default in (("rounds", 3), ("batch", 4), ("crop", 256), ("data-crops", 256)):
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--crops", type=int, nargs="+", default=list(CROPS), help="of the part `scaling`")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), help="of the part `scaling`")
    parser.add_argument("--again", action="store_true", help="repeat what was measured before")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of results.json and README.md")
    arguments = parser.parse_args()
    from bench.train_step import this_machine

    machine = this_machine()
    if arguments.precisions is None:
        arguments.precisions = ["float32", "bf16"] if machine["fast bf16"] == "yes" else ["float32"]
    before = _others(arguments.out).get("table", {})
    date = machine.pop("date")
    if before.get("machine", {}).get("device") != machine["device"]:
        before = {}
    latest = {part: {"arguments": " ".join(sys.argv[1:]), "date": date} for part in arguments.parts}
    commands = {**before.get("commands", {}), **latest}
    results = {"machine": machine, "commands": commands, "rows": before.get("rows", {})}
    measure_all(arguments, results)
    text = render(results)
    print(text)
    readme = arguments.out / "README.md"
    if readme.exists() and BEGIN in readme.read_text():
        before_it, _, rest = readme.read_text().partition(BEGIN)
        files.write_bytes(readme, f"{before_it}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}".encode())


if __name__ == "__main__":
    main()
