"""The command, end to end, as a user runs it."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from safetensors import safe_open

import regicomp
from regicomp.config.settings import Settings
from regicomp.image_codec import model_file
from regicomp.training import build, checkpoint_file
from regicomp.training.run import train
from regicomp.utils import files, machine

PROJECT = Path(__file__).resolve().parents[2]
Resolved = Callable[..., Settings]


def command(folder: Path, run: Path, *overrides: str) -> list[str]:
    """A tiny run on the images of a folder."""
    steps = ("trainer.max_steps=40", "trainer.checkpoint_every=10", "trainer.log_every_n_steps=1", "reg.warmup_steps=5")
    return tiny_run.command(folder, "optimizer=adam", *steps, f"hydra.run.dir={run}", *overrides)


def _run(folder: Path, run: Path, *overrides: str) -> str:
    done = subprocess.run(command(folder, run, *overrides), capture_output=True, text=True, timeout=250, cwd=run.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run, and what it printed; with W&B, which must neither ask nor block."""
    run = tmp_path_factory.mktemp("finished") / "run"
    return run, _run(folder, run, "logger.wandb=true")


def _record(run: Path) -> dict[str, Any]:
    record = json.loads((run / "results.json").read_text())
    for entry in record["testsets"].values():
        for image in entry["images"]:
            del image["encode_seconds"], image["decode_seconds"]
    timing = record.pop("timing")
    assert timing["measured_on"] == machine.name("cpu")
    datetime.date.fromisoformat(timing["date"])
    return record


def test_a_run_directory_holds_everything(finished: tuple[Path, str], folder: Path) -> None:
    run, printed = finished
    for name in (".hydra/config.yaml", "metrics.csv", "codec.safetensors", "source.safetensors", "summary.png"):
        assert (run / name).stat().st_size > 0
    assert list(run.glob("wandb/offline-run-*/*.wandb"))
    assert [p.name for p in sorted((run / "checkpoints").iterdir())] == ["step-000000030.ckpt", "step-000000040.ckpt"]
    assert (run / "summary.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((run / "results.json").read_text())["timing"]["trained_on"]
    record = _record(run)
    assert record["schema"] == 1
    assert record["run"]["backbone"] == record["run"]["source"] == "hyperprior"
    assert (record["run"]["alpha"], record["run"]["lmbda"], record["run"]["steps"]) == (0.03, 0.0067, 40)
    entry = record["testsets"][folder.resolve().name]
    assert len(entry["images"]) == 6
    assert entry["bpp"] == pytest.approx(sum(i["bpp"] for i in entry["images"]) / 6)
    for word in ("JPEG dB", "PSNR dB", "H_θ bpp"):
        assert word in printed
    rows = (run / "metrics.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(range(1, 41))


def test_no_inference_overhead(finished: tuple[Path, str]) -> None:
    """q_θ is absent from the exported codec."""
    run, _ = finished
    with safe_open(run / "codec.safetensors", "pt") as file:  # pyright: ignore
        names = set(file.keys())
    loaded = model_file.load_codec(run / "codec.safetensors")
    assert names == set(model_file.build(loaded.spec, "backbone").state_dict())
    assert not any("source" in name for name in names)


def test_killed_and_resumed_equals_unbroken_bit_for_bit(
    finished: tuple[Path, str], folder: Path, tmp_path: Path
) -> None:
    straight, _ = finished
    run = tmp_path / "run"
    process = subprocess.Popen(command(folder, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and process.poll() is None:
            rows = (run / "metrics.csv").read_text().count("\n") if (run / "metrics.csv").exists() else 0
            if rows > 15:  # between the checkpoints of updates 10 and 20
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait(30)
    assert process.returncode == -signal.SIGKILL
    assert not (run / "results.json").exists()
    written = list((run / "checkpoints").glob("step-*.ckpt"))
    assert written
    for path in written:  # as if it had trained for longer
        checkpoint = checkpoint_file.read(path)
        checkpoint["callbacks"]["Stopwatch"]["seconds"] += 1000
        checkpoint_file.write(checkpoint, path)
    assert "going on from" in _run(folder, run, "ckpt=last")
    for name in ("codec.safetensors", "source.safetensors", "metrics.csv"):
        assert (run / name).read_bytes() == (straight / name).read_bytes(), name
    assert _record(run) == _record(straight)
    assert 1000 < json.loads((run / "results.json").read_text())["timing"]["training_seconds"] < 1300


def test_a_finished_run_is_reported_not_repeated(finished: tuple[Path, str], folder: Path) -> None:
    run, _ = finished
    before = (run / "results.json").stat().st_mtime_ns
    assert "holds the finished run" in _run(folder, run, "ckpt=last")
    assert (run / "results.json").stat().st_mtime_ns == before


def test_evaluate_repeats_the_record(finished: tuple[Path, str], folder: Path, tmp_path: Path) -> None:
    run, _ = finished
    arguments = [
        *(sys.executable, "-m", "regicomp.evaluate", f"checkpoint={run}/codec.safetensors"),
        *(f"source_checkpoint={run}/source.safetensors", "data=folder", f"data.test_dirs=[{folder}]"),
        f"hydra.run.dir={tmp_path}/measured",
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert _record(tmp_path / "measured") == _record(run)


def test_a_codec_goes_on_from_another_s_weights(finished: tuple[Path, str], resolved: Resolved) -> None:
    run, _ = finished
    module = build.build_networks(resolved(f"init_from={run}/codec.safetensors"))
    trained = model_file.load_codec(run / "codec.safetensors").network
    assert all((a == b).all() for a, b in zip(module.codec.g_a.parameters(), trained.g_a.parameters(), strict=True))


def test_q_goes_on_from_another_s_weights(finished: tuple[Path, str], resolved: Resolved) -> None:
    run, _ = finished
    module = build.build_networks(resolved(f"init_source_from={run}/source.safetensors"))
    trained = model_file.load_source(run / "source.safetensors").network
    assert module.regularizer is not None
    ours = module.regularizer.source.state_dict()
    assert ours
    assert all((ours[name] == value).all() for name, value in trained.state_dict().items())
    with pytest.raises(ValueError, match="`init_source_from`"):
        build.build_networks(resolved(f"init_source_from={run}/codec.safetensors"))
    baseline = build.build_networks(resolved(f"init_source_from={run}/source.safetensors", "reg.alpha=0"))
    assert baseline.regularizer is None


def test_a_full_disk_leaves_no_half_record(
    finished: tuple[Path, str], folder: Path, resolved: Resolved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up after training, when the record is written: nothing of it is there, and a rerun finishes."""
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    (run / "results.json").unlink()
    checkpoint = checkpoint_file.read(run / "checkpoints" / "step-000000040.ckpt")
    overrides = command(folder, run)[3:-1]
    cfg = resolved(*overrides, "ckpt=last", tiny=False)
    assert checkpoint["regicomp"]["configuration"] == cfg.config_hash

    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_json", full)
        with pytest.raises(OSError, match="No space left"):
            train(cfg, run)
    assert not (run / "results.json").exists()
    train(cfg, run)
    assert _record(run) == _record(finished[0])


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")  # as of the command line
def test_a_finished_run_is_extended_to_the_bits_of_a_longer_one(
    folder: Path, tmp_path: Path, resolved: Resolved
) -> None:
    def settings(steps: int, *more: str) -> Settings:
        return resolved(
            *("data=folder", f"data.train_dir={folder}", f"data.test_dirs=[{folder}]", "backbone.N=8", "backbone.M=12"),
            *("optimizer.schedule=constant", "reg.warmup_steps=2", f"trainer.max_steps={steps}", "ckpt=last"),
            *("trainer.log_every_n_steps=1", "testsets=[]", "data.images=null", *more),
        )

    train(settings(8), tmp_path / "straight")
    run = tmp_path / "run"
    train(settings(4), run)
    with pytest.raises(ValueError, match=r"`trainer.max_steps` \(=3\) cannot extend the finished run of 4 updates"):
        train(settings(3), run)
    with pytest.raises(ValueError, match=r"which differs in .*`seed`"):
        train(settings(8, "seed=1"), run)
    train(settings(8), run)
    assert _record(run) == _record(tmp_path / "straight")
    for name in ("metrics.csv", "codec.safetensors", "source.safetensors"):
        assert (run / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    assert json.loads((run / "results-4.json").read_text())["run"]["steps"] == 4
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ValueError, match=r"8 updates and no checkpoint, so `trainer.max_steps` \(=9\) cannot extend"):
        train(settings(9), run)


def test_an_own_folder_s_backbone_needs_no_source_and_no_widths(folder: Path, tmp_path: Path) -> None:
    """conf/backbone/mine.yaml through --config-dir: q_θ is the hyperprior's, and that is told before the training."""
    (tmp_path / "mymodel.py").write_text(
        "from compressai.models import MeanScaleHyperprior\n\n\n"
        "class Mine(MeanScaleHyperprior):\n"
        "    def __init__(self, channels: int):\n        super().__init__(channels, 24)\n"
    )
    (tmp_path / "conf" / "backbone").mkdir(parents=True)
    (tmp_path / "conf" / "backbone" / "mine.yaml").write_text("_target_: mymodel.Mine\nchannels: 16\n")
    own = (f"--config-dir={tmp_path / 'conf'}", "backbone=mine", "trainer.max_steps=3", "reg.warmup_steps=0")
    told = _run(folder, tmp_path / "run", *own)
    assert told.count("backbone=mine has no conf/source/mine.yaml: q_θ is source=hyperprior; source=…") == 1
    run = _record(tmp_path / "run")["run"]
    assert (run["backbone"], run["source"]) == ("Mine", "hyperprior")


def test_a_class_of_the_user_s_own_trains_and_is_trusted_where_it_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mymodel.py").write_text(
        "from compressai.models import MeanScaleHyperprior\n\n\n"
        "class Mine(MeanScaleHyperprior):\n    def __init__(self):\n        super().__init__(16, 24)\n"
    )
    own = ("backbone._target_=mymodel.Mine", "~backbone.N", "~backbone.M")
    _run(folder, tmp_path / "run", *own, "trainer.max_steps=3", "reg.warmup_steps=0")
    assert _record(tmp_path / "run")["run"]["backbone"] == "Mine"
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"names the class 'mymodel.Mine'.*--trust MODULE"):
        regicomp.load(tmp_path / "run")
    assert regicomp.load(tmp_path / "run", trust=["mymodel"]).network.M == 24
    with pytest.raises(ValueError, match=r"`trust` \(=my model\) must name Python modules"):
        regicomp.load(tmp_path / "run", trust=["my model"])


def test_an_installed_wheel_carries_its_configuration_and_a_codec(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert (tmp_path / "site" / "regicomp" / "pretrained" / "codec.safetensors").is_file()
    shown = subprocess.run(
        [sys.executable, "-m", "regicomp.train", "--cfg", "job", "reg.alpha=0.25"],
        **{"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(tmp_path / "site")}},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert shown.returncode == 0, shown.stderr
    assert "alpha: 0.25" in shown.stdout
    where = "import regicomp.config.settings as c; print(c.conf_dir())"
    found = subprocess.run(
        [sys.executable, "-c", where],
        **{"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(tmp_path / "site")}},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.stdout.strip() == str(tmp_path / "site" / "regicomp" / "conf")
