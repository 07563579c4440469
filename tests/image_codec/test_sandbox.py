"""What a file does to its decoder stays in the child."""

from __future__ import annotations

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
        decoder._child.kill()
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
