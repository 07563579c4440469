"""Full updates on a simulated CUDA device: no tensor is on the wrong one, and no value is read back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.cpp_extension import include_paths

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that lets autograd believe in the device."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++, to make autograd believe in a CUDA device")
    library = tmp_path_factory.mktemp("hooks") / "hooks.so"
    command = [compiler, "-std=c++20", "-O1", "-shared", "-fPIC", *(f"-I{path}" for path in include_paths())]
    made = subprocess.run([*command, str(HERE / "cuda_hooks.cpp"), "-o", str(library)], capture_output=True, text=True)
    assert made.returncode == 0, f"g++ must know C++20: {made.stderr[:500]}"
    return library


CASES = [
    "backbone=hyperprior data.crop=64",
    "backbone=autoregressive data.crop=64 optimizer=muon",
    "backbone=attention data.crop=64 reg.per_image=true",
    "backbone=elic data.crop=64",
    "backbone=mlicpp data.crop=64",
    "backbone=hyperprior data.crop=64 reg.form=two_pass optimizer=adam",
    "backbone=hyperprior data.crop=192 objective=ms_ssim reg.project=true",
    # Variable rate, with every optimizer, for the backbones that code their latents otherwise.
    "backbone=hyperprior data.crop=64 rate=variable",
    "backbone=autoregressive data.crop=64 rate=variable optimizer=adam",
    "backbone=elic data.crop=64 rate=variable optimizer=muon reg.alpha=0",
    "backbone=mlicpp data.crop=64 rate=variable reg.pressure=0.1",
    # Families of q_θ other than the backbone's own.
    "backbone=hyperprior source=autoregressive data.crop=64 optimizer=adam",
    "backbone=hyperprior source=elic data.crop=64 source.density=logistic optimizer=muon",
    "backbone=hyperprior source=mlicpp data.crop=64",
    "backbone=elic source=hyperprior data.crop=64 optimizer=adam",
]


FIRST = [CASES[0], CASES[7]]
SLOW = [case for case in CASES if case not in FIRST]


@pytest.mark.parametrize("cases", [FIRST, pytest.param(SLOW, marks=[pytest.mark.slow, pytest.mark.timeout(2400)])])
def test_updates_stay_on_the_device(hooks: Path, cases: list[str]) -> None:
    command = [sys.executable, "-W", "ignore", str(HERE / "fake_cuda.py"), str(hooks), *cases]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2300)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.splitlines() == [f"{case} | cuda:0" for case in cases]


def test_a_read_back_is_found(hooks: Path) -> None:
    """CompressAI's own entropy bottleneck iterates over a tensor."""
    script = hooks.with_name("spoilt.py")
    with_read_backs = "module.train()\n    del module.codec.entropy_bottleneck.forward"
    script.write_text((HERE / "fake_cuda.py").read_text().replace("module.train()", with_read_backs))
    command = [sys.executable, "-W", "ignore", str(script), str(hooks), CASES[0]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode != 0
    assert "DataDependentOutputException" in done.stderr
