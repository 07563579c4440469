"""A file that harms its decoder harms the child process alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regicomp.image_codec.sandbox import IsolatedDecoder

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.slow  # starts three processes that load PyTorch
def test_a_child_decodes_refuses_and_is_replaced() -> None:
    data = (GOLDEN / "rgb.rgc").read_bytes()
    with Image.open(GOLDEN / "rgb.png") as stored:
        right = np.asarray(stored).astype(int)
    with IsolatedDecoder(GOLDEN / "codec.safetensors") as decoder:
        assert np.abs(decoder.decompress(data).pixels - right).max() <= 1
        with pytest.raises(ValueError, match="cut off or altered"):
            decoder.decompress(data[:-1])
        assert decoder._child is not None
        decoder._child.process.kill()
        with pytest.raises(ValueError, match="ended by the file"):
            decoder.decompress(data)
        assert np.abs(decoder.decompress(data).pixels - right).max() <= 1
        decoder._seconds = 0.0
        with pytest.raises(ValueError, match="took longer than 0 s"):
            decoder.decompress((GOLDEN / "tiles.rgc").read_bytes())
    with pytest.raises(ValueError, match="no such file"), IsolatedDecoder(GOLDEN / "none.safetensors") as decoder:
        decoder.decompress(data)


@pytest.mark.slow
def test_a_child_s_memory_is_bounded() -> None:
    with (
        IsolatedDecoder(GOLDEN / "codec.safetensors", memory=1 << 20) as decoder,
        pytest.raises(ValueError, match=r"memory|ended by the file|cannot be decoded"),
    ):
        decoder.decompress((GOLDEN / "tiles.rgc").read_bytes())


def test_a_script_without_its_main_guard_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from regicomp.image_codec.sandbox import IsolatedDecoder\n"
        "try:\n"
        f"    IsolatedDecoder({str(GOLDEN / 'codec.safetensors')!r}).decompress(b'')\n"
        "except RuntimeError as error:\n"
        "    print('told:', error)\n"
        "    raise SystemExit(1)\n"
    )
    run = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 1
    assert run.stderr == ""
    in_the_child, here = run.stdout.splitlines()
    assert here.startswith("told: the decoder's process ended with status 1 while it started; ")
    for line in (in_the_child, here):
        assert '`if __name__ == "__main__":`' in line
