"""CompressAI's checkpoints start codecs, code pictures, and come back as CompressAI's own classes load them."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import compressai.models
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import regicomp
from regicomp import export as command
from regicomp.backbone import variable_rate
from regicomp.image_codec import compressai_weights, model_file, torch_checkpoint

GROUPS = [1, 1, 2, 2, 4]
# Label of what is found, CompressAI's class and its arguments.
CODECS: dict[str, tuple[str, dict[str, Any]]] = {
    "hyperprior": ("ScaleHyperprior", {"N": 8, "M": 12}),
    "autoregressive": ("JointAutoregressiveHierarchicalPriors", {"N": 8, "M": 12}),
    "attention": ("Cheng2020Attention", {"N": 8}),
    "elic": ("Elic2022Official", {"N": 8, "M": 10, "groups": GROUPS}),
    "mbt2018-mean": ("MeanScaleHyperprior", {"N": 8, "M": 12}),
    "cheng2020-anchor": ("Cheng2020Anchor", {"N": 8}),
    "bmshj2018-factorized": ("FactorizedPrior", {"N": 8, "M": 12}),
    "bmshj2018-factorized-relu": ("FactorizedPriorReLU", {"N": 8, "M": 12}),
}
OURS = ("hyperprior", "autoregressive", "attention", "elic")


def _made(label: str, seed: int = 0) -> nn.Module:
    name, arguments = CODECS[label]
    torch.manual_seed(seed)
    codec = getattr(compressai.models, name)(**arguments)
    with torch.no_grad():  # medians as training leaves them, off the integers
        for bottleneck in (m for m in codec.modules() if hasattr(m, "quantiles")):
            bottleneck.quantiles += 0.3 * torch.rand(len(bottleneck.quantiles), 1, 1)
    return codec


def _trained(codec: nn.Module) -> dict[str, Any]:
    """A checkpoint as CompressAI's examples/train.py writes it, after one update."""
    weights = [p for n, p in codec.named_parameters() if not n.endswith("quantiles")]
    optimizer = torch.optim.Adam(weights, lr=1e-4)
    aux = torch.optim.Adam([p for n, p in codec.named_parameters() if n.endswith("quantiles")], lr=1e-3)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min")
    loss = sum(p.square().sum() for p in weights)
    assert isinstance(loss, Tensor)
    loss.backward()
    optimizer.step()
    schedule.step(loss.detach())
    return {
        "epoch": 1,
        "state_dict": codec.state_dict(),
        "loss": loss.detach(),
        "optimizer": optimizer.state_dict(),
        "aux_optimizer": aux.state_dict(),
        "lr_scheduler": schedule.state_dict(),
    }


def _aged(state: dict[str, Tensor], bottleneck: str) -> dict[str, Tensor]:
    """The names of data-parallel training and of CompressAI's first releases, with tables that only they had."""
    forms = {
        "until 1.2.4": (
            r"\.(matri|bias|factor)(?:ces|es|s)\.(\d)",
            {"matri": "_matrix", "bias": "_bias", "factor": "_factor"},
        ),
        "first": (
            r"\.(matri|bias|factor)(?:ces|es|s)\.(\d)",
            {"matri": "_matrices.", "bias": "_biases.", "factor": "_factors."},
        ),
    }
    pattern, names = forms[bottleneck]
    old = {
        re.sub(pattern, lambda m: f".{names[m[1]]}{m[2]}", n).replace(".skip.", ".downsample."): t
        for n, t in state.items()
    }
    return OrderedDict((f"module.{name}", tensor) for name, tensor in old.items())


def _x(side: int = 64) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("label", CODECS)
def test_whose_a_state_dict_is(label: str) -> None:
    state = _made(label).state_dict()
    found = compressai_weights.identify(state)
    assert found is not None
    assert (found.label, found.spec.arguments) == (label, CODECS[label][1])
    network = model_file.build(found.spec, "backbone")
    assert {n: t.shape for n, t in network.state_dict().items()} == {n: t.shape for n, t in state.items()}


@pytest.mark.parametrize("age", ["until 1.2.4", "first"])
@pytest.mark.parametrize("label", ["hyperprior", "attention", "elic"])
def test_old_names_become_todays(label: str, age: str) -> None:
    state = _made(label).state_dict()
    aged = _aged(state, age)
    assert not set(aged) & set(state)
    renamed = compressai_weights.renamed(aged)
    assert set(renamed) == set(state)
    assert all(torch.equal(renamed[name], state[name]) for name in state)


@pytest.mark.parametrize("label", OURS)
def test_init_from_gives_compressais_forward_pass(label: str, tmp_path: Path) -> None:
    """The very numbers for training, from a training checkpoint with old names."""
    theirs = _made(label)
    checkpoint = _trained(theirs)
    checkpoint["state_dict"] = _aged(checkpoint["state_dict"], "until 1.2.4")
    torch.save(checkpoint, tmp_path / "x.pth.tar")
    found = compressai_weights.identify(theirs.state_dict())
    assert found is not None
    torch.manual_seed(1)
    ours = model_file.build(found.spec, "backbone")
    model_file.initialize(ours, tmp_path / "x.pth.tar")
    outs = []
    for codec in (theirs.train(), ours.train()):
        torch.manual_seed(2)
        with torch.no_grad():
            outs.append(codec(_x()))
    torch.testing.assert_close(outs[1]["x_hat"], outs[0]["x_hat"], rtol=1e-4, atol=1e-5)
    for part in ("y", "z"):
        torch.testing.assert_close(outs[1]["likelihoods"][part], outs[0]["likelihoods"][part], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("label", CODECS)
def test_a_checkpoint_codes_pictures(label: str, tmp_path: Path) -> None:
    torch.save(_trained(_made(label)), tmp_path / "x.pth.tar")
    codec, again = (regicomp.load(tmp_path / "x.pth.tar") for _ in range(2))
    pixels = (255 * _x(80)[0, :, :70].permute(1, 2, 0)).numpy().astype(np.uint8)
    data = codec.compress(pixels)
    assert np.array_equal(np.asarray(again.decompress(data)), np.asarray(codec.decompress(data)))


@pytest.mark.parametrize("label", ["hyperprior", "mbt2018-mean"])
def test_a_checkpoint_evaluates_as_in_compressai(label: str, tmp_path: Path) -> None:
    """The medians are the file's, so that ẑ, hence the picture, is the one that CompressAI decodes."""
    theirs = _made(label).eval()
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    ours = model_file.load_codec(tmp_path / "x.pth").network
    with torch.no_grad():
        expected, found = theirs(_x()), ours(_x())
    torch.testing.assert_close(found["x_hat"], expected["x_hat"], rtol=1e-4, atol=1e-5)
    for part in ("y", "z"):
        torch.testing.assert_close(found["likelihoods"][part], expected["likelihoods"][part], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("label", OURS)
def test_the_way_back_is_the_same_network(label: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(_made(label).state_dict(), tmp_path / "in.pth")
    assert command.main([str(tmp_path / "in.pth"), "--compressai", str(tmp_path / "out.pth.tar")]) == 0
    name, arguments = CODECS[label]
    assert f"compressai.models.{name}" in capsys.readouterr().out
    state = torch.load(tmp_path / "out.pth.tar", weights_only=True)["state_dict"]
    back = getattr(compressai.models, name)(**arguments)
    back.load_state_dict(state, strict=True)
    theirs = _made(label)
    assert all(torch.equal(p, dict(theirs.named_parameters())[n]) for n, p in back.named_parameters())
    with torch.no_grad():
        assert torch.equal(back.eval()(_x())["x_hat"], theirs.eval()(_x())["x_hat"])
        coded = back.compress(_x())  # with the tables of the file
    assert all(strings[0] for strings in coded["strings"])


def test_a_quality_of_variable_rate_becomes_a_codec_of_compressais(tmp_path: Path) -> None:
    found = compressai_weights.identify(_made("autoregressive").state_dict())
    assert found is not None
    codec = model_file.build(found.spec, "backbone").eval()
    gains = variable_rate.install(codec, [0.01, 0.02, 0.04], 0.5, 2.0)
    with torch.no_grad():
        gains.log_gain += 0.1 * torch.randn(gains.log_gain.shape, generator=torch.Generator().manual_seed(0))
        gains.log_inverse += 0.1 * torch.randn(gains.log_inverse.shape, generator=torch.Generator().manual_seed(1))
    name = compressai_weights.write(tmp_path / "x.pth.tar", codec, 2.5)
    state = torch.load(tmp_path / "x.pth.tar", weights_only=True)["state_dict"]
    theirs = getattr(compressai.models, name)(8, 12)
    theirs.load_state_dict(state, strict=True)
    outs = []
    for network, quality in ((codec, 2.5), (theirs, None)):
        torch.manual_seed(3)
        with torch.no_grad(), variable_rate.at_quality(network, quality):
            outs.append(network.train()(_x()))
    torch.testing.assert_close(outs[1]["x_hat"], outs[0]["x_hat"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outs[1]["likelihoods"]["y"], outs[0]["likelihoods"]["y"], rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="`quality` must be given, a number from 1 to 3"):
        compressai_weights.write(tmp_path / "y.pth.tar", codec)


def test_what_cannot_go_back_is_told(tmp_path: Path) -> None:
    attention = model_file.build(model_file.Spec("regicomp.backbone.autoregressive.Attention", {"N": 8}), "backbone")
    variable_rate.install(attention, [0.01, 0.02])
    with pytest.raises(ValueError, match="its g_a ends with QuickAttention, no convolution"):
        compressai_weights.write(tmp_path / "x.pth.tar", attention, 1.0)
    with pytest.raises(ValueError, match="Linear is no codec of CompressAI's"):
        compressai_weights.write(tmp_path / "x.pth.tar", nn.Linear(1, 1))
    assert not (tmp_path / "x.pth.tar").exists()


def test_other_sizes_and_other_codecs_are_one_line_that_names_both(tmp_path: Path) -> None:
    torch.save(_trained(_made("hyperprior")), tmp_path / "x.pth.tar")
    spec = model_file.Spec("regicomp.backbone.hyperprior.Hyperprior", {"N": 8, "M": 16})
    with pytest.raises(ValueError, match="init_from") as told:
        model_file.initialize(model_file.build(spec, "backbone"), tmp_path / "x.pth.tar")
    assert str(told.value) == (
        f"`init_from` (={tmp_path / 'x.pth.tar'}) holds hyperprior with N=8, M=12, but this backbone is "
        "hyperprior with N=8, M=16; take backbone=hyperprior backbone.N=8 backbone.M=12"
    )
    torch.save(_made("mbt2018-mean").state_dict(), tmp_path / "mean.pth")
    with pytest.raises(
        ValueError, match=r"mbt2018-mean with N=8, M=12.*take backbone._target_=compressai\.models\.Mean"
    ):
        model_file.initialize(model_file.build(spec, "backbone"), tmp_path / "mean.pth")


class _Harm:
    def __reduce__(self) -> Any:
        return print, ("harm",)


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.pth.tar"
    torch.save({"state_dict": _made("hyperprior").state_dict(), "more": _Harm()}, path)
    with pytest.raises(ValueError, match="is no readable checkpoint") as told:
        regicomp.load(path)
    assert "\n" not in str(told.value)
    assert capsys.readouterr().out == ""
    torch.save({"state_dict": {"encoder.weight": torch.zeros(3)}}, path)
    with pytest.raises(ValueError, match=r"such as encoder\.weight, are of none of the codecs of CompressAI"):
        regicomp.load(path)
    state = _made("hyperprior").state_dict()
    torch.save({n: t for n, t in state.items() if n != "h_s.2.bias"}, path)
    with pytest.raises(ValueError, match=r"hyperprior with N=8, M=12, but 1 weights are missing.*h_s\.2\.bias"):
        regicomp.load(path)
    torch.save({**state, "g_a.0.weight": torch.zeros(1).expand(5000, 3, 5, 5)}, path)
    with pytest.raises(ValueError, match=r"g_a\.0\.weight is no plain tensor"):  # few bytes that ask for much memory
        torch_checkpoint.read(path)
    path.write_bytes(b"PK\x03\x04" + bytes(50))
    with pytest.raises(ValueError, match="is no readable checkpoint"):
        regicomp.load(path)
