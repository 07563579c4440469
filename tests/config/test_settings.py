"""Wrong settings are refused before anything is built, by name, value and what was expected."""

from __future__ import annotations

import dataclasses
import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from regicomp.config import checks, old_names, settings
from regicomp.config.settings import Settings

Resolved = Callable[..., Settings]

# override, the setting that the message must name, and a part of what it must say was expected
WRONG = [
    ("reg.alpha=-0.1", "reg.alpha", "at least 0"),
    ("reg.alpha=lots", "reg.alpha", "finite number"),
    ("reg.alpha=.nan", "reg.alpha", "finite number"),
    ("reg.alpha=.inf", "reg.alpha", "finite number"),
    ("reg.alpha=null", "reg.alpha", "finite number"),
    ("reg.order=both", "reg.order", "codec_first, source_first"),
    ("reg.form=three_pass", "reg.form", "one_pass, two_pass"),
    ("reg.source_steps=0", "reg.source_steps", "at least 1"),
    ("reg.source_steps=2", "reg.source_steps", "must be 1 with reg.order=codec_first"),
    ("reg.warmup_steps=-1", "reg.warmup_steps", "at least 0"),
    ("reg.warmup_steps=1.5", "reg.warmup_steps", "integer"),
    ("reg.warmup_steps=100000", "reg.warmup_steps", "less than `trainer.max_steps`"),
    ("reg.ramp_steps=-1", "reg.ramp_steps", "at least 0"),
    ("reg.release_steps=-1", "reg.release_steps", "at least 0"),
    ("reg.release_steps=100000", "reg.release_steps", "less than `trainer.max_steps`"),
    ("reg.feed=sharp", "reg.feed", "noisy, rounded"),
    ("reg.project=some", "reg.project", "true"),
    ("reg.per_image=2", "reg.per_image", "true"),
    ("reg.max_pressure=0", "reg.max_pressure", "greater than 0"),
    ("reg.probe=maybe", "reg.probe", "true, false"),
    ("quality=0", "quality", "from 1 to 8"),
    ("quality=9", "quality", "from 1 to 8"),
    ("quality=high", "quality", "from 1 to 8"),
    ("quantization=rounded", "quantization", "noise, mixed"),
    ("size=huge", "size", "paper, half, tiny"),
    ("seed=-1", "seed", "from 0"),
    ("seed=1.5", "seed", "integer"),
    ("trainer.max_steps=0", "trainer.max_steps", "at least 1"),
    ("trainer.max_steps=-5", "trainer.max_steps", "at least 1"),
    ("trainer.log_every_n_steps=0", "trainer.log_every_n_steps", "at least 1"),
    ("trainer.checkpoint_every=0", "trainer.checkpoint_every", "at least 1"),
    ("backbone.N=0", "backbone.N", "at least 1"),
    ("backbone.M=many", "backbone.M", "integer"),
    ("objective.lmbda=0", "objective.lmbda", "greater than 0"),
    ("objective.lmbda=-1", "objective.lmbda", "greater than 0"),
    ("objective.distortion=psnr", "objective.distortion", "mse, ms_ssim"),
    ("objective=ms_ssim", "data.crop", "larger than 160"),
    ("source.patch=7", "source.patch", "must divide `data.crop`"),
    ("source.patch=0", "source.patch", "at least 1"),
    ("source.width=0", "source.width", "at least 1"),
    ("source.density=cauchy", "source.density", "gaussian, logistic"),
    ("source.initial_scale=0", "source.initial_scale", "greater than 0"),
    ("data.crop=100", "data.crop", "multiple of 64"),
    ("data.crop=0", "data.crop", "at least 1"),
    ("data.batch_size=0", "data.batch_size", "at least 1"),
    ("data.workers=-1", "data.workers", "at least 0"),
    ("data.cache=sometimes", "data.cache", "auto, true, false"),
    ("data.on_error=ignore", "data.on_error", "skip, raise"),
    ("data.images=0", "data.images", "at least 1"),
    ("data=folder", "data.train_dir", "a folder"),
    ("testsets=kodak", "testsets", "a list"),
    ("testsets=[]", "testsets", "at least one test set"),
    ("optimizer.lr=0 optimizer.source_lr=1e-4", "optimizer.lr", "greater than 0"),
    ("optimizer.source_lr=1e-9", "optimizer.source_lr", "at least `optimizer.lr`"),
    ("optimizer.schedule=step", "optimizer.schedule", "constant, cosine"),
    ("optimizer.decay=0", "optimizer.decay", "greater than 0"),
    ("optimizer.decay=1.5", "optimizer.decay", "at most 1"),
    ("trainer.gradient_clip_val=0", "trainer.gradient_clip_val", "greater than 0"),
    ("precision=fp8", "precision", "auto, bf16, float32, tf32"),
    ("channels_last=perhaps", "channels_last", "auto, true, false"),
    ("logger.wandb=online", "logger.wandb", "true, false"),
    ("ckpt=''", "ckpt", "a string"),
    ("guard.patience=0", "guard.patience", "at least 1"),
    ("guard.action=panic", "guard.action", "rollback, stop"),
    ("guard.lower=0", "guard.lower", "greater than 0"),
    ("guard.lower=2", "guard.lower", "at most 1"),
    ("guard.rollbacks=-1", "guard.rollbacks", "at least 0"),
    ("guard.alarm_rows=0", "guard.alarm_rows", "at least 1"),
    ("deterministic=mostly", "deterministic", "true, false"),
    ("backbone._target_=vgg", "backbone._target_", "must name a class"),
    ("backbone._target_=compressai.models.Nope", "backbone._target_", "must name a class"),
    ("source._target_=regicomp.source.nope.Nope", "source._target_", "must name a class"),
    ("+source.sluces=6", "source.sluces", "must be an argument of"),
    ("+source.slices=6", "source.slices", "must be an argument of"),
    ("backbone.N=100000", "backbone.N", "at most 8192"),
    ("source.width=1000000", "source.width", "at most 8192"),
    # several settings that are right alone
    ("backbone=mlicpp backbone.M=50", "backbone.slices", "must divide `backbone.M` (=50)"),
    ("backbone=mlicpp backbone.slices=5", "backbone.slices", "must divide `backbone.M` (=48)"),
    ("backbone=mlicpp backbone.slices=0", "backbone.slices", "at least 1"),
    ("backbone=mlicpp backbone.heads=5", "backbone.heads", "must divide the channels of a slice"),
    ("backbone=mlicpp backbone.heads=null", "backbone.heads", "integer"),
    ("backbone=elic backbone.M=50", "backbone.groups", "must sum to `backbone.M` (=50); they sum to 40"),
    ("backbone=elic backbone.groups=[1,2,3]", "backbone.groups", "they sum to 6"),
    ("backbone=elic backbone.groups=[0,40]", "backbone.groups", "at least 1"),
    ("backbone=elic backbone.groups=40", "backbone.groups", "a list of integers"),
    ("backbone=elic backbone.groups=[]", "backbone.groups", "a list of integers"),
    ("source=mlicpp source.slices=7", "source.slices", "must divide the samples of a patch"),
    ("source=mlicpp source.heads=5", "source.heads", "must divide the samples of a slice"),
    ("source=mlicpp source.slices=-1", "source.slices", "at least 1"),
    ("source=elic source.patch=48", "source.patch", "must divide `data.crop`"),
    ("backbone=hyperprior source=autoregressive source.patch=3", "source.patch", "must divide `data.crop`"),
    ("backbone=attention backbone.N=none", "backbone.N", "integer"),
    ("objective=ms_ssim data.crop=128", "data.crop", "larger than 160"),
    ("reg.order=source_first reg.source_steps=0", "reg.source_steps", "at least 1"),
    ("reg.alpha=0 reg.probe=true optimizer.source_lr=1e-9", "optimizer.source_lr", "at least `optimizer.lr`"),
    ("data=folder data.train_dir=[]", "data.train_dir", "a folder"),
    ("data=folder data.train_dir=x testsets=[] data.test_dirs=[]", "testsets", "at least one test set"),
]


def test_the_table_is_long_enough() -> None:
    assert len(WRONG) >= 60


@pytest.mark.parametrize(("override", "setting", "expected"), WRONG, ids=[w[0] for w in WRONG])
def test_wrong_settings_are_refused(resolved: Resolved, override: str, setting: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"`{setting}`")) as caught:
        resolved(*override.split())
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


REG_OPTIONS = sorted(path.stem for path in (settings.conf_dir() / "reg").glob("*.yaml"))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("reg.alpha=0",),
        ("objective=ms_ssim", "data.crop=192"),
        ("reg.order=source_first", "reg.source_steps=3"),
        ("reg.alpha=0", "reg.warmup_steps=1000000"),
        ("data=folder", "data.train_dir=[a,b]", "data.test_dirs=[c]"),
        ("data=bsds500",),
        ("experiment=demo",),
        ("experiment=first_light",),
        ("experiment=recipe",),
        *((f"optimizer={option}",) for option in ("adam", "soap", "muon")),
        *((f"reg={option}",) for option in REG_OPTIONS),
        ("experiment=search_start",),
        ("strategy=cpu",),
        ("strategy=gpu",),
        ("backbone._target_=compressai.models.MeanScaleHyperprior",),
    ],
)
def test_right_settings_are_accepted(resolved: Resolved, overrides: tuple[str, ...]) -> None:
    resolved(*overrides, tiny=False)


def test_quality_picks_lambda_and_widths(resolved: Resolved) -> None:
    def found(*overrides: str) -> tuple[float, int, int]:
        cfg = resolved(*overrides, tiny=False)
        return cfg.objective.lmbda, cfg.backbone.arguments["N"], cfg.backbone.arguments["M"]

    assert found("quality=1") == (0.0018, 128, 192)
    assert found("quality=6") == (0.0483, 192, 320)
    assert found("quality=6", "objective.lmbda=0.5", "backbone.N=7") == (0.5, 7, 320)


def test_the_hash_is_of_what_the_result_depends_on(resolved: Resolved) -> None:
    same = ["logger=csv", "ckpt=last", "trainer.log_every_n_steps=7", "trainer.checkpoint_every=9", "data.workers=2"]
    same += ["evaluation.workers=2"]
    other = ["seed=1", "reg.alpha=0.2", "trainer.max_steps=5000", "data.crop=128", "objective.lmbda=1"]
    other += ["evaluation.images=3"]
    expected = resolved().config_hash
    assert all(resolved(o).config_hash == expected for o in same)
    assert len({resolved(o).config_hash for o in other} | {expected}) == 7


def test_what_follows_from_the_settings_is_computed_once(resolved: Resolved) -> None:
    cfg = resolved("trainer.max_steps=1000", "reg.ramp_steps=7", "reg.release_steps=100")
    reg = cfg.regularizer
    assert (reg.warmup_steps, reg.ramp_steps, reg.release_at) == (50, 7, 900)
    reg = resolved("trainer.max_steps=100000", "reg.warmup_steps=null").regularizer
    assert (reg.warmup_steps, reg.ramp_steps, reg.release_at) == (2000, 2000, None)
    assert (cfg.backbone_label, cfg.source_label) == ("hyperprior", "hyperprior")
    baseline = resolved("reg.alpha=0")
    assert (baseline.source, baseline.source_label) == (None, None)
    assert resolved("reg.alpha=0", "phases=[{start: 5, alpha: 0.1}]").source is not None
    assert cfg.training_data == ["dead leaves, 2 images"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg.trainer.max_steps = 3  # pyright: ignore


def test_another_process_resolves_the_same_settings_from_plain_data(resolved: Resolved) -> None:
    cfg = resolved("phases=[{start: 5, lr: 1e-5}]")
    told = settings.resolve(json.loads(json.dumps(cfg.composed)))
    assert told.phases.phases == cfg.phases.phases
    same = dataclasses.replace(told, phases=cfg.phases)
    assert same == cfg


UNKNOWN = [
    ("+foo=1", "foo", "the nearest is `"),
    ("+trainer.gradient_clip=0.5", "trainer.gradient_clip", "the nearest is `"),
    ("+reg.alhpa=1", "reg.alhpa", "the nearest is `reg.alpha`"),
    ("+data.batchsize=1", "data.batchsize", "the nearest is `data.batch_size`"),
    ("+guard.deeper={a: 1}", "guard.deeper", "the nearest is `guard."),
    ("+deterministc=true", "deterministc", "the nearest is `deterministic`"),
    ("+source.pacth=8", "source.pacth", "the nearest is `patch`"),
    ("phases=[{start: 5, bath_size: 1}]", "phases[0].bath_size", "the nearest is `batch_size`"),
]


@pytest.mark.parametrize(("override", "setting", "expected"), UNKNOWN, ids=[u[0] for u in UNKNOWN])
def test_unknown_settings_are_refused_with_the_nearest(
    resolved: Resolved, override: str, setting: str, expected: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"`{setting}`")) as caught:
        resolved(override)
    assert expected in str(caught.value)


def test_old_names_are_understood_and_said_once() -> None:
    arguments = [
        "trainer.log_every=7",
        "optimizer.clip=2",
        "experiment=night",
        "++trainer.accumulate=2",
        "-m",
        "a=1",
    ]
    renamed, found = old_names.in_arguments(arguments)
    assert renamed == [
        *("trainer.log_every_n_steps=7", "trainer.gradient_clip_val=2", "experiment=kodak_seeds"),
        *("++trainer.accumulate_grad_batches=2", "-m", "a=1"),
    ]
    assert set(found) == {"trainer.log_every", "optimizer.clip", "experiment=night", "trainer.accumulate"}
    assert "`trainer.log_every` is now `trainer.log_every_n_steps`" in str(old_names.told(found))
    assert old_names.in_arguments(renamed) == (renamed, {})


def test_an_own_experiment_may_have_old_names(
    resolved: Resolved, composed: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    old = settings.resolve(composed("+optimizer.clip=0.5", "precision=32-true", "+trainer.accumulate=2"))
    said = capsys.readouterr().err
    new = resolved("trainer.gradient_clip_val=0.5", "precision=float32", "trainer.accumulate_grad_batches=2")
    assert said.count("warning:") == 1
    assert not capsys.readouterr().err
    assert old == dataclasses.replace(new, phases=old.phases)
    assert resolved("precision=bf16-mixed").precision == "bf16"
    assert new.config_hash != resolved().config_hash


def test_half_size_has_half_the_widths(resolved: Resolved) -> None:
    for backbone in ("hyperprior", "elic", "mlicpp", "autoregressive", "attention"):
        paper, half = (resolved(f"backbone={backbone}", f"size={size}", tiny=False) for size in ("paper", "half"))
        assert half.source is not None
        assert paper.source is not None
        assert 2 * half.source.arguments["width"] == paper.source.arguments["width"]
        for width in {"N", "M"} & set(paper.backbone.arguments):
            assert 2 * half.backbone.arguments[width] == paper.backbone.arguments[width]
    assert resolved("size=half", tiny=False).backbone.arguments == {"N": 64, "M": 96}


def test_records_say_what_is_unusual_about_a_regularized_run(resolved: Resolved) -> None:
    variants = {option: resolved(f"reg={option}", tiny=False).variant for option in REG_OPTIONS}
    assert {option for option, variant in variants.items() if variant is None} == {"default", "off", "paper"}
    assert len(set(variants.values())) == len(REG_OPTIONS) - 2  # these three differ in α alone
    assert variants["released"] == "release_steps=200"
    assert resolved("reg=critic", "reg.alpha=0").variant is None  # a baseline is as any other


@pytest.mark.parametrize("source", ["hyperprior", "attention", "elic", "mlicpp"])
def test_an_unusual_source_model_is_told_apart(resolved: Resolved, source: str) -> None:
    for tiny in (False, True):
        assert resolved(f"source={source}", tiny=tiny).variant is None
    unusual = [f"source={source}", "source.density=logistic", "source.width=20"]
    assert resolved(*unusual).variant == "source.width=20, source.density=logistic"
    assert resolved(*unusual, "reg.alpha=0").variant is None


def test_a_run_can_be_given_a_name(resolved: Resolved) -> None:
    assert resolved("variant=mine", "reg=critic").variant == "mine"
    assert resolved("variant=mine", "reg.alpha=0").variant == "mine"
    assert resolved("variant=mine").config_hash == resolved().config_hash
    assert resolved("reg.pressure=0.05").variant is None  # the record has it beside α


def test_small_crops_at_the_end_are_doubted(resolved: Resolved) -> None:
    (line,) = checks.doubts(resolved("data.crop=64"))
    assert "`data.crop` (=64)" in line
    assert not checks.doubts(resolved("data.crop=128"))
    assert not checks.doubts(resolved("data.crop=64", "trainer.max_steps=10", "phases=[{start: 5, crop: 128}]"))


def test_labels() -> None:
    assert settings.label("backbone", "regicomp.backbone.hyperprior.Hyperprior") == "hyperprior"
    assert settings.label("source", "regicomp.source.hyperprior.HyperpriorSource") == "hyperprior"
    assert settings.label("backbone", "my.models.Codec") == "Codec"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["reg.alpha=-1"], 2, "error: `reg.alpha` (=-1) must be a finite number of at least 0, or"),
        (
            ["reg.alpha=[]", "rate=variable"],
            2,
            "error: `reg.alpha` (=[]) must be a finite number of at least 0, or with",
        ),
        (["reg.alpha=[0.1,0.2]"], 2, "error: `reg.alpha` (=[0.1, 0.2]) must be a number where rate=fixed"),
        (["backbone=vgg"], 1, "hyperprior"),
        (["source=vgg"], 1, "autoregressive"),
        (["reg.alhpa=0.1"], 1, "alhpa"),
        (["+foo=1"], 2, "error: `foo` (=1) must be a setting that exists; the nearest is `"),
        (["data=folder", "data.train_dir=/nowhere", "testsets=[photos]"], 2, "/nowhere does not exist"),
        (["data=bsds500", "data.root=/nowhere"], 2, "(=['/nowhere/bsds500/train', '/nowhere/bsds500/test'])"),
        (["testsets=[kodka]"], 2, "`testsets` (=kodka)"),
        (["ckpt=nothing.ckpt"], 2, "`ckpt` (=nothing.ckpt)"),
        (["init_from=nothing.safetensors"], 2, "`init_from` (=nothing.safetensors)"),
        (["init_source_from=nothing.safetensors"], 2, "`init_source_from` (=nothing.safetensors)"),
        (["backbone=mlicpp", "backbone.M=50"], 2, "`backbone.slices` (=4) must divide `backbone.M` (=50)"),
    ],
)
def test_the_command_says_so_in_a_line_and_at_once(
    tmp_path: Path, arguments: list[str], status: int, said: str
) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "regicomp.train", "size=tiny", f"hydra.run.dir={tmp_path}/run"]
    started = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == status
    assert said in "\n".join(told) + done.stdout
    assert "Traceback" not in told
    assert not list(tmp_path.rglob("*.ckpt"))
    assert not list(tmp_path.rglob("results.json"))
    # Less than 5 seconds of processor time, whatever else the machine does; torch alone would take most of that.
    assert ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime < 5
    assert not any(re.search(r"\| torch$", line) for line in done.stderr.splitlines())


def test_what_differs_from_another_run_is_named(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    first, second = (settings.resolve(composed(f"seed={seed}", f"reg.alpha={seed / 10}")) for seed in (1, 2))
    (tmp_path / "config.yaml").write_text(settings.as_yaml(first))
    assert settings.differing(first, tmp_path / "config.yaml") == []
    assert settings.differing(second, tmp_path / "config.yaml") == ["reg.alpha", "seed"]
