"""Random configurations drawn from the groups: each trains two updates and evaluates, or is refused in a line."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from regicomp.config.settings import Settings
from regicomp.evaluation import summary_picture
from regicomp.training import run
from regicomp.utils import files

Resolved = Callable[..., Settings]


class Drawn(NamedTuple):
    """Values of one setting: one of `wrong` once in twenty times, so that many configurations are right."""

    right: list[str]
    wrong: list[str]


# Lightning's remark on a run shorter than its logging interval: true, and no fault.
pytestmark = pytest.mark.filterwarnings("ignore:The number of training batches")

SETTINGS = (
    Drawn(
        [
            *(f"backbone={b}" for b in ("hyperprior", "autoregressive", "attention", "elic", "mlicpp")),
            "backbone._target_=compressai.models.MeanScaleHyperprior",
        ],
        ["backbone=vgg"],
    ),
    Drawn(["", "", "backbone.N=16"], ["backbone.N=0", "backbone.N=7", "backbone.N=x"]),
    Drawn(["", "", "", "++backbone.M=48"], ["++backbone.M=50", "++backbone.M=-3", "++backbone.M=1.5"]),
    Drawn(["", "", *(f"source={s}" for s in ("hyperprior", "autoregressive", "elic", "mlicpp"))], ["source=none"]),
    Drawn(["", "source.patch=8", "source.patch=4", "source.patch=16"], ["source.patch=7", "source.patch=0"]),
    Drawn(["", "source.density=logistic"], ["source.density=cauchy"]),
    Drawn(["reg.alpha=0", "reg.alpha=0.1", "reg.alpha=1"], ["reg.alpha=-1", "reg.alpha=.nan", "reg.alpha=x"]),
    Drawn(["", "reg.order=source_first reg.source_steps=2", "reg.form=two_pass"], ["reg.source_steps=2"]),
    Drawn(["reg.warmup_steps=0", "reg.warmup_steps=1"], ["reg.warmup_steps=2", "reg.warmup_steps=-1"]),
    Drawn(["", "reg.probe=true", "reg.max_pressure=0.01"], ["reg.max_pressure=0", "reg.probe=2"]),
    Drawn(["", "", "objective=ms_ssim data.crop=192", "objective.lmbda=0.01"], ["objective=ms_ssim"]),
    Drawn(["", "data.batch_size=1", "data.cache=false"], ["data.crop=100", "data.crop=0", "data.batch_size=0"]),
    Drawn(["", "precision=bf16", "precision=auto"], ["precision=fp8"]),
    Drawn(["", "channels_last=true", "channels_last=false"], ["channels_last=3"]),
    Drawn(["strategy=cpu", "strategy=auto"], ["strategy=gpu", "strategy=cray"]),
    Drawn(["", "optimizer.schedule=constant", "deterministic=true"], ["optimizer.lr=-1", "optimizer.lerning=1"]),
    Drawn(["", "guard.action=stop", "quality=6"], ["quality=0", "guard.patience=x"]),
)


def draw(seed: int) -> list[str]:
    """The overrides of one configuration; hypothesis draws the seed alone, so that few are drawn twice."""
    rng = random.Random(seed)
    drawn = [rng.choice(s.wrong if rng.random() < 0.05 else s.right) for s in SETTINGS]
    return [word for override in drawn for word in override.split()]


def outcome(resolved: Resolved, images: Path, overrides: list[str]) -> str:
    """Train two updates and evaluate; "trained", or what kind of refusal came.

    Raises:
        Exception: anything but a refusal that names what is wrong.
    """
    from hydra.errors import HydraException

    # data first: a drawn override of the same key must win
    common = ["data=folder", f"data.train_dir={images}", f"data.test_dirs=[{images}]", "trainer.max_steps=2"]
    folder = Path(tempfile.mkdtemp())
    try:
        cfg = resolved("data.crop=64", *common, *overrides)
        found = run.train(cfg, folder / "run")
    except HydraException:  # an unknown group, option or key
        return "refused"
    except ValueError as error:
        if "`" not in str(error):  # names no setting
            raise
        return "refused"
    finally:
        shutil.rmtree(folder)
    assert all(entry["bpp"] > 0 for entry in found["testsets"].values())
    return "trained"


def _images(folder: Path) -> Path:
    import numpy as np
    from PIL import Image

    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (200, 192, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "noise.png")
    return folder


def _search(resolved: Resolved, images: Path, examples: int) -> Counter[str]:
    seen: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**64))
    def search(seed: int) -> None:
        overrides = draw(seed)
        try:
            seen[outcome(resolved, images, overrides)] += 1
        except Exception as error:
            error.add_note(f"overrides: {' '.join(overrides)}")
            raise
        if os.environ.get("REGICOMP_EXAMPLES"):
            print(f"\n{seen.total()}: {dict(seen)}, last: {' '.join(overrides)}", flush=True)

    search()
    return seen


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with one image; the classical curves and the picture, which take longest, are left out."""
    from regicomp.evaluation import classical_codecs

    def nothing(path: Path, *rest: Any) -> None:
        files.write_bytes(path, b"")

    monkeypatch.setattr(summary_picture, "draw", nothing)
    monkeypatch.setattr(classical_codecs, "QUICK", ())
    return _images(tmp_path / "images")


def test_a_few_configurations(resolved: Resolved, quick: Path) -> None:
    seen = _search(resolved, quick, 6)
    assert seen.total() == 6


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
def test_many_configurations(resolved: Resolved, quick: Path) -> None:
    """1,000 by default; REGICOMP_EXAMPLES sets another number."""
    seen = _search(resolved, quick, int(os.environ.get("REGICOMP_EXAMPLES", "1000")))
    print(dict(seen))
    assert min(seen["trained"], seen["refused"]) > seen.total() / 10
