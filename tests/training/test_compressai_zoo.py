"""The models of compressai.zoo train by name, and what cannot is refused in one line before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import quiet
import torch
from compressai.models import CompressionModel, ScaleHyperprior
from compressai.zoo import image_models
from compressai.zoo.image import model_architectures
from compressai.zoo.image_vbr import model_architectures as of_variable_rate
from conftest import picture
from torch import Tensor, nn

from regicomp.backbone import contract
from regicomp.config.settings import Settings
from regicomp.evaluation.round_trip import Codec, evaluate_image
from regicomp.image_codec import model_file
from regicomp.training.build import build_networks

CLASSES = {name.replace("_", "-"): cls for name, cls in {**model_architectures, **of_variable_rate}.items()}


def _overrides(cls: type[nn.Module]) -> list[str]:
    sizes = ["~backbone.M"] if "Cheng" in cls.__name__ else []
    return [f"backbone._target_=compressai.models.{cls.__name__}", *sizes]


@pytest.mark.parametrize("name", [name for name in image_models if not name.endswith("vbr")])
def test_a_model_of_the_zoo_trains_by_name_and_codes(
    name: str, resolved: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = ("trainer.max_steps=2", "reg.warmup_steps=0", "reg.ramp_steps=1", "source=hyperprior")
    cfg = resolved(*_overrides(CLASSES[name]), *settings)
    before = [p.detach().clone() for p in build_networks(cfg).phi]
    module = build_networks(cfg)
    quiet.fit(module, cfg)
    moved = [not torch.equal(a, b) for a, b in zip(before, module.phi, strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    model_file.save_codec(tmp_path / "codec.safetensors", module.codec, cfg.backbone, {})
    row = evaluate_image(Codec(model_file.load_codec(tmp_path / "codec.safetensors")), "picture", picture(64, 64))
    assert row.bytes > 20  # and decoder and encoder agree, else it raises


@pytest.mark.parametrize("name", [name for name in image_models if name.endswith("vbr")])
def test_compressais_own_variable_rate_is_refused(name: str, resolved: Callable[..., Settings]) -> None:
    with pytest.raises(ValueError, match=r"`backbone\._target_` \(=.*Vbr\) is of CompressAI's own variable rate.*take"):
        build_networks(resolved(*_overrides(CLASSES[name])))


class _NoEntropyModel(nn.Module):
    def update(self, force: bool = False, update_quantiles: bool = False) -> bool:
        return force and update_quantiles

    def compress(self, x: Tensor) -> dict[str, Any]:
        return {"x": x}

    def decompress(self, x: Tensor) -> dict[str, Any]:
        return {"x": x}


class _Answers(ScaleHyperprior):
    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__(2, 2)
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer(x)


def _frames(x: Tensor) -> Any:
    raise RuntimeError(f"{len(x)} frames\nof a video")


@pytest.mark.parametrize(
    ("codec", "told"),
    [
        (nn.Linear(1, 1), "must be a codec; it has no update, compress, decompress"),
        (_NoEntropyModel(), "has no entropy model, hence no rate"),
        (CompressionModel(), "it has no compress, decompress"),
        (_Answers(_frames), "of one of 64×64 it says: 1 frames$"),
        (_Answers(lambda x: x), "must return x_hat and likelihoods; it returns Tensor"),
        (_Answers(lambda x: {"x_hat": x}), "must return x_hat and likelihoods; it returns x_hat"),
        (_Answers(lambda x: {"x_hat": x, "likelihoods": {}}), "returns no likelihoods, hence no rate"),
        (_Answers(lambda x: {"x_hat": x, "likelihoods": {"y": 1}}), "its likelihoods must be tensors by name"),
        (_Answers(lambda x: {"x_hat": x[..., :2], "likelihoods": {"y": x}}), r"its x_hat is \(1, 3, 64, 2\)"),
    ],
)
def test_a_class_that_is_no_backbone_is_one_line(codec: nn.Module, told: str) -> None:
    with pytest.raises(ValueError, match=rf"^`backbone\._target_` \(=mine\.Codec\).*{told}") as error:
        contract.check(codec, "mine.Codec")
    assert "\n" not in str(error.value)


def test_the_check_changes_nothing_that_the_training_draws() -> None:
    codec = ScaleHyperprior(4, 4).eval()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    contract.check(codec, "mine.Codec")
    assert torch.equal(torch.rand(3), expected)
    assert not any(module.training for module in codec.modules())
