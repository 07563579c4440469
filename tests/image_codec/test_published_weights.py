"""The MLIC++ authors' checkpoints become codec files and start codecs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import published_mlicpp as published
import pytest
import torch
from safetensors.torch import save_file

from regicomp.backbone.mlicpp import MLICPlusPlus
from regicomp.image_codec import model_file
from regicomp.image_codec.published_weights import main


def _checkpoint() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    state = published.state_dict()
    for name, tensor in state.items():
        state[name] = 0.05 * torch.rand(tensor.shape, generator=generator) + 0.01
    return {"epoch": 3, "state_dict": state, "optimizer": {"lr": 1e-4}}


def test_a_checkpoint_becomes_a_codec_that_codes(tmp_path: Path) -> None:
    checkpoint = _checkpoint()
    torch.save(checkpoint, tmp_path / "mlicpp.pth.tar")
    assert main([str(tmp_path / "mlicpp.pth.tar"), str(tmp_path / "codec.safetensors")]) == 0
    codec = model_file.load_codec(tmp_path / "codec.safetensors").network
    weight = checkpoint["state_dict"]["h_s.increase.4.weight"]
    torch.testing.assert_close(codec.h_s[4].weight.detach(), weight)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        coded = codec.compress(x)
        assert torch.equal(codec.decompress(coded["strings"], coded["shape"])["x_hat"], codec(x)["x_hat"].clamp(0, 1))


def test_init_from_takes_their_state_dict(tmp_path: Path) -> None:
    state = _checkpoint()["state_dict"]
    save_file(state, tmp_path / "theirs.safetensors")
    codec = MLICPlusPlus(N=published.N, M=published.M, slices=published.SLICES)
    model_file.initialize(codec, tmp_path / "theirs.safetensors")
    torch.testing.assert_close(codec.g_a[6].weight.detach(), state["g_a.analysis_transform.6.weight"])
    other = MLICPlusPlus(N=8, M=published.M, slices=published.SLICES)
    with pytest.raises(
        ValueError, match=r"`init_from` \(=.*must hold the weights of this backbone, but its weights do not fit"
    ):
        model_file.initialize(other, tmp_path / "theirs.safetensors")
    save_file({n: t for n, t in state.items() if "h_s.increase.8" not in n}, tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match=r"`init_from` \(=.*lacks h_s\.increase\.8\.weight"):
        model_file.initialize(codec, tmp_path / "cut.safetensors")


class _Harm:
    def __reduce__(self) -> Any:
        return print, ("harm",)


def test_what_is_no_checkpoint_of_theirs_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "codec.safetensors")
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, tmp_path / "other.pth")
    torch.save(_Harm(), tmp_path / "harm.pth")
    for name, told in (
        ("other.pth", "is no state dict of the authors'"),
        ("harm.pth", "is no readable checkpoint"),
        ("none.pth", "is no readable"),
    ):
        assert main([str(tmp_path / name), out]) == 1
        said = capsys.readouterr()
        assert told in said.err
        assert said.err.startswith(str(tmp_path / name))
        assert "harm\n" not in said.out
    assert not Path(out).exists()
