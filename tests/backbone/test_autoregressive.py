"""CompressAI's two autoregressive codecs, evaluated as they are coded."""

from __future__ import annotations

from pathlib import Path

import compressai.models
import pytest
import torch
from conftest import picture

from regicomp.backbone.autoregressive import Attention, Autoregressive
from regicomp.evaluation import round_trip
from regicomp.image_codec import model_file
from regicomp.image_codec.model_file import Spec

SPECS = [
    Spec("regicomp.backbone.autoregressive.Autoregressive", {"N": 12, "M": 16}),
    Spec("regicomp.backbone.autoregressive.Attention", {"N": 12}),
]
IDS = ["autoregressive", "attention"]


@pytest.mark.parametrize("spec", SPECS, ids=IDS)
@pytest.mark.parametrize("size", [(64, 64), (100, 70)])
def test_the_decoder_gets_back_what_the_encoder_s_forward_pass_shows(
    spec: Spec, size: tuple[int, int], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = model_file.build(spec, "backbone")
    with torch.no_grad():
        list(network.g_a.modules())[-1].weight.mul_(60)  # pyright: ignore
    model_file.save_codec(tmp_path / "codec.safetensors", network, spec, {})
    codec = round_trip.Codec(model_file.load_codec(tmp_path / "codec.safetensors"))
    pixels = picture(*size)
    round_trip.evaluate_image(codec, "a", pixels)  # raises if the pictures differ
    assert torch.equal(codec.decode(codec.encode(pixels)), codec.reconstruct(pixels)[0])
    assert codec.encode(pixels) != codec.encode(255 - pixels)  # the latents are not empty


@pytest.mark.parametrize(
    ("ours", "theirs", "arguments", "parameters"),
    [
        (Autoregressive, compressai.models.JointAutoregressiveHierarchicalPriors, (192, 192), 14_130_467),
        (Attention, compressai.models.Cheng2020Attention, (128,), 13_183_293),
    ],
    ids=IDS,
)
def test_weights_and_names_are_compressai_s(ours: type, theirs: type, arguments: tuple, parameters: int) -> None:
    torch.manual_seed(0)
    first = ours(*arguments)
    torch.manual_seed(0)
    second = theirs(*arguments)
    assert sum(p.numel() for p in first.parameters()) == parameters
    states = first.state_dict(), second.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))


@pytest.mark.parametrize(("ours", "theirs"), [(Autoregressive, "JointAutoregressiveHierarchicalPriors")])
def test_training_is_compressai_s(ours: type, theirs: str) -> None:
    torch.manual_seed(0)
    network = ours(12, 16)
    reference = getattr(compressai.models, theirs)(12, 16)
    reference.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 64, 64)
    outs = []
    for codec in (network, reference):
        torch.manual_seed(1)
        outs.append(codec(x))
    assert torch.equal(outs[0]["x_hat"], outs[1]["x_hat"])
    assert torch.equal(outs[0]["likelihoods"]["y"], outs[1]["likelihoods"]["y"])
