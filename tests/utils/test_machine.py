"""A machine's name says what a figure was measured on."""

from __future__ import annotations

import platform

import pytest
import torch

from regicomp.utils import machine

CPUINFO = "processor\t: 0\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: AMD EPYC\n"


def test_the_processor_is_named_as_the_system_names_it() -> None:
    assert machine.processor(CPUINFO) == "AMD EPYC"


@pytest.mark.parametrize("known", ["", "aarch64"])
def test_a_processor_without_a_name_is_named_all_the_same(known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "processor", lambda: known)
    monkeypatch.setattr(platform, "machine", lambda: "")
    assert machine.processor("processor\t: 0\n") == (known or "an unknown processor")


def test_cores_and_gpus_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    assert machine.name("cuda") == "NVIDIA H100 80GB HBM3"
    assert " cores of " in machine.name("cpu")
