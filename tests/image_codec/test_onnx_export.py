"""The ONNX graphs compute what the codec's transforms compute, at sizes that they were not traced with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from regicomp import export as command
from regicomp.image_codec import model_file, onnx_export
from regicomp.image_codec.model_file import Spec

onnxruntime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is in the extra regicomp[onnx]")
pytest.importorskip("onnxscript", reason="onnxscript is in the extra regicomp[onnx]")

SPECS = {
    "hyperprior": Spec("regicomp.backbone.hyperprior.Hyperprior", {"N": 8, "M": 12}),
    "autoregressive": Spec("regicomp.backbone.autoregressive.Autoregressive", {"N": 8, "M": 12}),
    "attention": Spec("regicomp.backbone.autoregressive.Attention", {"N": 8}),
    "elic": Spec("regicomp.backbone.elic.Elic", {"N": 8, "M": 10, "groups": [1, 1, 2, 2, 4]}),
    "mlicpp": Spec("regicomp.backbone.mlicpp.MLICPlusPlus", {"N": 8, "M": 16, "slices": 2, "heads": 2}),
}


@pytest.mark.filterwarnings("default")  # the exporter's own
@pytest.mark.parametrize(
    "name", ["hyperprior", *(pytest.param(n, marks=pytest.mark.slow) for n in SPECS if n != "hyperprior")]
)
def test_onnxruntime_gives_what_torch_gives(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    network = model_file.build(SPECS[name], "backbone")
    model_file.save_codec(tmp_path / "codec.safetensors", network, SPECS[name], {})
    assert command.main([str(tmp_path / "codec.safetensors"), "--onnx", str(tmp_path / "onnx")]) == 0
    assert set(onnx_export.TRANSFORMS) == {path.stem for path in (tmp_path / "onnx").iterdir()}
    assert "g_a.onnx" in capsys.readouterr().out
    codec = model_file.load_codec(tmp_path / "codec.safetensors").network
    for part, transform in onnx_export.transforms(codec).items():
        _, channels, h, w = transform.example.shape
        given = torch.rand(2, channels, h, 2 * w, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = transform.module(given).numpy()
        session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / f"{part}.onnx"))
        (found,) = session.run(None, {"input": given.numpy()})
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-4 * max(1.0, float(np.abs(expected).max()))


def test_what_h_a_takes() -> None:
    """The scale hyperprior's h_a takes the latent's magnitude, all others' the latent."""
    takes = {n: onnx_export.transforms(model_file.build(s, "backbone").eval())["h_a"].takes for n, s in SPECS.items()}
    assert takes == {n: "abs(y)" if n == "hyperprior" else "y" for n in SPECS}


def test_a_codec_without_hyper_transforms_is_refused() -> None:
    codec = nn.Module()
    codec.g_a, codec.g_s = nn.Identity(), nn.Identity()
    with pytest.raises(ValueError, match="has no h_a, h_s"):
        onnx_export.transforms(codec)
