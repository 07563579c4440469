"""The settings of `regicomp.evaluate`: conf/evaluate.yaml composed and checked, as settings.py does with a run's."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from regicomp.config import checks, old_names
from regicomp.config.schema import integer, one_of, part, read, string, strings
from regicomp.config.settings import Data


@dataclass(frozen=True)
class Measurement:
    """The settings of `regicomp.evaluate`."""

    checkpoint: str = string()
    source_checkpoint: str | None = string(null=True)
    workers: int = integer(1)
    threads: int | None = one_of(1, 2, 4, 8, None)
    precision: str = one_of("auto", "bf16", "float32")
    trust: list[str] = strings()
    testsets: list[str] = strings()
    images: int | None = integer(1, null=True)
    data: Data = part(Data)


def resolve(cfg: DictConfig) -> Measurement:
    """The settings of `regicomp.evaluate`, from conf/evaluate.yaml; see `settings.resolve`."""
    found = read(Measurement, old_names.understood(cfg), unread=("data.train_dir",))
    checks.check_testsets(found.testsets, found.data.test_dirs)
    return found
