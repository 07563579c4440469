"""Faults injected into a run from within its process; each is called before training starts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from regicomp.evaluation import summary_picture
from regicomp.training.module import RegularizedCodec


def _at(steps: range, disturb: Callable[[RegularizedCodec], None]) -> None:
    """Call `disturb(module)` before the gradients of these updates are clipped; from the first lowering on, no more."""
    clip = RegularizedCodec._clip

    def disturbed(self: RegularizedCodec, *networks: list[torch.nn.Parameter]) -> None:
        if self.global_step in steps and self.lowering == 1.0:
            disturb(self)
        clip(self, *networks)

    RegularizedCodec._clip = disturbed


def _spoil(parameters: list[torch.nn.Parameter], value: float) -> None:
    gradient = parameters[len(parameters) // 2].grad
    assert gradient is not None
    gradient.view(-1)[0] = value


def nan_in_phi() -> None:
    """Two updates whose gradient of φ holds a NaN."""
    _at(range(6, 8), lambda module: _spoil(module.phi, float("nan")))


def nan_in_theta() -> None:
    """Two updates whose gradient of θ holds a NaN."""
    _at(range(6, 8), lambda module: _spoil(module.theta, float("nan")))


def inf_in_theta() -> None:
    """Two updates whose gradient of θ holds an infinity."""
    _at(range(6, 8), lambda module: _spoil(module.theta, float("inf")))


def nan_in_loss() -> None:
    """Two updates whose loss is NaN."""
    forward = RegularizedCodec._forward

    def disturbed(self: RegularizedCodec, crops: torch.Tensor, step: int, part: int = 0) -> Any:
        terms, x, x_hat = forward(self, crops, step, part)
        return (terms._replace(loss=terms.loss * float("nan")) if step in (6, 7) else terms), x, x_hat

    RegularizedCodec._forward = disturbed


def nan_for_long() -> None:
    """Every gradient of φ from update 9 on holds a NaN, until α and the learning rates are lowered."""
    _at(range(9, 10**6), lambda module: _spoil(module.phi, float("nan")))


def nan_from_the_start() -> None:
    """The same from the first update on: there is no good checkpoint to go back to."""
    _at(range(10**6), lambda module: _spoil(module.phi, float("nan")))


def files_lost() -> None:
    """At update 6 every tenth file of the training folder is moved to a folder beside it."""

    def move(module: RegularizedCodec) -> None:
        data: Any = module.trainer.datamodule  # pyright: ignore
        folder = Path(data.settings.train_dir[0])
        away = folder.with_name(f"{folder.name}-lost")
        away.mkdir()
        for path in sorted(folder.iterdir())[::10]:
            path.rename(away / path.name)

    _at(range(6, 7), move)


def disk_full_at_record() -> None:
    """The last free byte is taken when the picture is drawn: the record comes next."""

    def fill(path: Path, *rest: Any) -> None:
        with (path.parent.parent / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    summary_picture.draw = fill


def own_group() -> None:
    """The run leads a group of processes, as under a shell or a scheduler, so that the group can be signalled."""
    os.setpgid(0, 0)


def no_network() -> None:
    """W&B is to be online, has a key, and every connection is refused."""
    nowhere = "http://127.0.0.1:9"
    os.environ |= {"WANDB_MODE": "online", "WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": nowhere}
    os.environ |= {"HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere}


def unwritable_home() -> None:
    """The home folder, and so the caches below it, cannot be written."""
    os.environ["HOME"] = "/proc/none"
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "REGICOMP_CACHE"):
        os.environ.pop(name, None)


def _shm_of(kib: int) -> None:
    """A /dev/shm of so many KiB, for this process and its children alone."""
    own_mounts = 0x00020000  # CLONE_NEWNS
    if ctypes.CDLL(None, use_errno=True).unshare(own_mounts):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", "/dev/shm"], check=True)


def shm_of_64_kib() -> None:
    """Enough for the workers' locks."""
    _shm_of(64)


def shm_of_4_kib() -> None:
    """Enough for one lock."""
    _shm_of(4)


def clock_backwards() -> None:
    """The wall clock runs backwards, an hour at each look."""
    now = [time.time()]

    def backwards(*args: Any) -> float:
        now[0] -= 3600
        return now[0]

    time.time = backwards
    time.time_ns = lambda: int(backwards() * 1e9)
