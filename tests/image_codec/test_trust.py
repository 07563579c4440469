"""A codec file from a stranger: what it names and how large it claims to be."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import regicomp
from regicomp.image_codec import model_file, trust

ARGUMENTS = {"N": 32, "M": 48}
TARGET = "compressai.models.ScaleHyperprior"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """A tiny codec's tensors."""
    network = model_file.build(model_file.Spec(TARGET, ARGUMENTS), "backbone")
    return {name: t.contiguous() for name, t in network.state_dict().items()}


def _file(path: Path, weights: dict[str, torch.Tensor], **changed: Any) -> Path:
    about = {"format": "regicomp-codec", "schema": 1, "spec": {"target": TARGET, "arguments": ARGUMENTS}, "run": {}}
    save_file(weights, path, {"regicomp": json.dumps({**about, **changed})})
    return path


def test_an_honest_file_is_read(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    assert model_file.load_codec(_file(tmp_path / "a", weights)).spec == (TARGET, ARGUMENTS)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "torch.hub.load",
        "compressai.models.base.warnings.warn",
        "compressai.models.google.get_scale_table",  # a function of a trusted module
        "compressai.models.utils.conv",
        "compressai.models.google.nn",
        "compressai.models.google.GDN",  # imported there, defined elsewhere
        "compressai.models.google.__builtins__",
        "compressai.models.__loader__.load_module",
        "regicomp.backbone.mlicpp.F",
        "regicomp.source.base.math",
        "regicomp.train.main",
        "",
        7,
        None,
    ],
)
def test_a_class_that_is_no_codec_is_refused(
    tmp_path: Path, weights: dict[str, torch.Tensor], target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_file, "build", lambda *args: pytest.fail("something was called"))
    path = _file(tmp_path / "a", weights, spec={"target": target, "arguments": {}})
    with pytest.raises(ValueError, match=r"names|must name"):
        model_file.load_codec(path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"N": 10**9, "M": 48},
        {"N": 32, "M": 4000},  # more than a file of this size can hold
        {"N": -(10**6), "M": 48},
        {"N": 32, "M": {"_target_": "os.system"}},
        {"N": 32, "M": [[1]]},
        {"N": [1] * 1000, "M": 48},
        {"N": "x" * 1000, "M": 48},
        {"N": 1e300, "M": 48},
        {"N": "32", "M": 48},  # plain, and of no use to the class
        {"nonsense": 1},
        [],
        None,
    ],
)
def test_arguments_out_of_bounds_are_refused(tmp_path: Path, weights: dict[str, torch.Tensor], arguments: Any) -> None:
    path = _file(tmp_path / "a", weights, spec={"target": TARGET, "arguments": arguments})
    with pytest.raises(ValueError, match=r"argument|cannot be built"):
        model_file.load_codec(path)


@pytest.mark.parametrize(
    "changed",
    [{"spec": None}, {"spec": []}, {"spec": {}}, {"run": None}, {"run": {"alpha": "high"}}, {"format": "other"}],
)
def test_malformed_metadata_is_refused(tmp_path: Path, weights: dict[str, torch.Tensor], changed: Any) -> None:
    with pytest.raises(ValueError, match=str(tmp_path)):
        model_file.load_codec(_file(tmp_path / "a", weights, **changed))


@pytest.mark.parametrize("text", ["[]", "{", "null", "[" * 100_000])
def test_metadata_that_are_no_mapping_are_refused(tmp_path: Path, weights: dict[str, torch.Tensor], text: str) -> None:
    save_file(weights, tmp_path / "a", {"regicomp": text})
    with pytest.raises(ValueError, match="metadata"):
        model_file.load_codec(tmp_path / "a")


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 7, b"\xff" * 8, (1 << 40).to_bytes(8, "little"), (5 << 20).to_bytes(8, "little") + b" " * (6 << 20)],
)
def test_header_sizes_are_bounded(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        model_file.load_codec(tmp_path / "a")


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(trust.LARGEST_FILE_BYTES + 1)  # sparse
    with pytest.raises(ValueError, match="at most"):
        model_file.load_codec(tmp_path / "a")


def test_no_pickle_is_ever_trusted() -> None:
    """Every torch.load says weights_only=True; nothing imports a module that runs what it reads."""
    package = Path(regicomp.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "dill", "cloudpickle", "shelve", "marshal"} & set(names), path
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in ast.unparse(node), path
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                assert "allow_pickle=True" not in ast.unparse(node), path
