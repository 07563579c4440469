"""Schedules as data: each phase a function of the step, and nothing stored."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import quiet
import torch
from hypothesis import given
from hypothesis import strategies as st

from regicomp.config import phases
from regicomp.config.phases import Phase
from regicomp.config.settings import Settings
from regicomp.data.crops import CropDataset, StepSampler
from regicomp.data.datamodule import CropData
from regicomp.training import checkpoint_file
from regicomp.training.build import build_networks

Resolved = Callable[..., Settings]
FIRST = Phase(0, 64, 4, 1e-4, 2e-4, 0.1)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 6), st.sampled_from([64, 128])), max_size=4))
def test_positions_and_crops_follow_from_the_steps(later: list[tuple[int, int, int]]) -> None:
    """Against counting: every update takes the next `batch_size` positions, and every crop has its phase's size."""
    entries, start = [], 0
    for length, batch, crop in later:
        start += length
        entries.append({"start": start, "batch_size": batch, "crop": crop})
    schedule, position = phases.read(FIRST, entries, start + 10), 0
    batches = list(StepSampler(schedule, start + 10))
    for step in range(start + 10):
        phase = schedule.at(step)
        assert phase.start <= step
        assert schedule.first_position(step) == position
        assert batches[step] == list(range(position, position + phase.batch_size))
        assert {schedule.crop_of(k) for k in batches[step]} == {phase.crop}
        position += phase.batch_size


def test_what_an_entry_does_not_name_stays() -> None:
    found = phases.read(FIRST, [{"start": 10, "crop": 128}, {"start": 20, "lr": 1e-5}, {"start": 30, "alpha": 0}], 40)
    assert found.at(9) == FIRST
    assert found.at(10) == FIRST._replace(start=10, crop=128)
    assert found.at(25) == Phase(20, 128, 4, 1e-5, 1e-5, 0.1)
    assert found.at(39).alpha == 0
    assert found.largest_crop == 128
    assert phases.read(FIRST, [{"start": 0, "crop": 256}], 40).at(0).crop == 256


WRONG = [
    ("phases=3", "phases", "a list"),
    ("phases=[3]", "phases[0]", "a mapping"),
    ("phases=[{crop: 128}]", "phases[0]", "`start`"),
    ("phases=[{start: 5}]", "phases[0]", "at least one of"),
    ("phases=[{start: 5, corp: 128}]", "phases[0].corp", "one of start, crop"),
    ("phases=[{start: -5, crop: 128}]", "phases[0].start", "at least 0"),
    ("phases=[{start: 5.5, crop: 128}]", "phases[0].start", "integer"),
    ("phases=[{start: 100000, crop: 128}]", "phases[0].start", "less than `trainer.max_steps`"),
    ("phases=[{start: 9, crop: 128}, {start: 9, crop: 64}]", "phases[1].start", "greater than"),
    ("phases=[{start: 5, crop: 100}]", "data.crop", "multiple of 64"),
    ("phases=[{start: 5, batch_size: 0}]", "phases[0].batch_size", "at least 1"),
    ("phases=[{start: 5, lr: 0}]", "phases[0].lr", "greater than 0"),
    ("phases=[{start: 5, lr: fast}]", "phases[0].lr", "finite number"),
    ("phases=[{start: 5, alpha: -1}]", "phases[0].alpha", "at least 0"),
    ("phases=[{start: 5, source_lr: 1e-9}]", "optimizer.source_lr", "at least `optimizer.lr`"),
    ("strategy=ddp_cpu strategy.devices=3", "data.batch_size", "multiple of 3"),
    ("strategy=ddp_cpu strategy.devices=auto", "strategy.devices", "integer"),
    ("strategy=ddp_cpu strategy.devices=0", "strategy.devices", "at least 1"),
    ("strategy=cpu strategy.devices=2", "strategy.devices", "strategy=ddp"),
    ("strategy.num_nodes=0", "strategy.num_nodes", "at least 1"),
    ("strategy.accelerator=tpu", "strategy.accelerator", "auto, cpu, gpu"),
    ("strategy.strategy=deepspeed", "strategy.strategy", "auto, ddp"),
    ("strategy=fsdp", "strategy", "must be ddp"),
    ("trainer.accumulate_grad_batches=3", "data.batch_size", "multiple of 3"),
    ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches", "at least 1"),
    ("trainer.accumulate_grad_batches=2 reg.form=two_pass", "trainer.accumulate_grad_batches", "must be 1"),
    ("compile=maybe", "compile", "true, false"),
    ("profile=1", "profile", "true, false"),
    ("plan=1", "plan", "true, false"),
    ("data.device_crops=gpu", "data.device_crops", "auto, true, false"),
]


@pytest.mark.parametrize(("overrides", "setting", "expected"), WRONG, ids=[w[0] for w in WRONG])
def test_wrong_schedules_and_strategies_are_refused(
    resolved: Resolved, overrides: str, setting: str, expected: str
) -> None:
    split = [overrides] if overrides.startswith("phases") else overrides.split()
    with pytest.raises(ValueError, match=re.escape(f"`{setting}`")) as caught:
        resolved("data.batch_size=4", *split)
    assert expected in str(caught.value)


def test_compiling_without_a_compiler_is_refused(resolved: Resolved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    resolved()
    with pytest.raises(ValueError, match=r"`compile` \(=True\) needs a C\+\+ compiler.*no no-such-compiler on"):
        resolved("compile=true")


SCHEDULE = (
    "trainer.max_steps=6",
    "reg.alpha=0.1",
    "reg.warmup_steps=0",
    "optimizer.schedule=constant",
    "phases=[{start: 2, crop: 128, batch_size: 1, lr: 1e-5}, {start: 4, alpha: 0}]",
)


def _fit(cfg: Settings, until: int, ckpt: Path | None = None, save: Path | None = None) -> tuple[Any, list[Any]]:
    """Train to update `until` of the schedule; the module, and (crops' shape, learning rate, α) of each update."""
    module = build_networks(cfg)
    seen: list[Any] = []
    data = CropData(cfg.data, cfg.trainer.max_steps, cfg.seed, cfg.phases)
    trainer = quiet.trainer(until, plugins=[checkpoint_file.AtomicCheckpointIO()])
    module.codec.register_forward_hook(
        lambda _module, inputs, _out: seen.append(
            (
                tuple(inputs[0].shape),
                trainer.optimizers[0].param_groups[0]["lr"],
                module.regularizer.schedule.at(trainer.global_step),
            )
        )
    )
    trainer.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=True)
    if save is not None:
        trainer.save_checkpoint(save)
    return module, seen


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")  # as in regicomp.train
@pytest.mark.parametrize(
    "others", [(), ("optimizer=soap", "optimizer.every=2", "average.decay=0.9"), ("optimizer=muon",)]
)
def test_a_run_follows_its_schedule_and_resumes_within_it(
    resolved: Resolved, tmp_path: Path, others: tuple[str, ...]
) -> None:
    """Stopped within a phase and resumed: the same updates, the same bits."""
    cfg = resolved(*SCHEDULE, *others, "optimizer.warmup=0", "optimizer.lr=1e-4")
    straight, seen = _fit(cfg, 6)
    early, late, last = ((2, 3, 64, 64), 1e-4, 0.1), ((1, 3, 128, 128), 1e-5, 0.1), ((1, 3, 128, 128), 1e-5, 0.0)
    assert seen == [early, early, late, late, last, last]
    _fit(cfg, 3, save=tmp_path / "at3.ckpt")
    resumed, rest = _fit(cfg, 6, ckpt=tmp_path / "at3.ckpt")
    assert rest == seen[3:]
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    if straight.average is not None and resumed.average is not None:
        for a, b in zip(straight.average._means, resumed.average._means, strict=True):
            assert torch.equal(a, b)


def test_without_phases_nothing_changes(resolved: Resolved) -> None:
    """An entry that repeats what holds anyway leaves crops and configuration hash of an ordinary run alone."""
    cfg = resolved()
    data = CropData(cfg.data, 4, 0)
    split = CropData(cfg.data, 4, 0, phases.read(cfg.phases.at(0), [{"start": 2, "crop": 64}], 4))
    for a, b in zip(data.train_dataloader(), split.train_dataloader(), strict=True):
        assert torch.equal(a, b)
    assert isinstance(data.dataset, CropDataset)
    assert cfg.config_hash == resolved("strategy=ddp_cpu").config_hash
    assert cfg.config_hash != resolved("phases=[{start: 5, crop: 128}]").config_hash
