"""Tables without their padding are the tables, and lengths that do not fit are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import regicomp
from regicomp.image_codec import model_file, packed_tables

NAME, LENGTHS = "g._quantized_cdf", "g._cdf_length"


@given(st.lists(st.integers(2, 9), min_size=1, max_size=6))
def test_there_and_back(lengths: list[int]) -> None:
    table = torch.zeros(len(lengths), max(lengths), dtype=torch.int32)
    for row, length in zip(table, lengths, strict=True):
        row[1:length] = torch.arange(1, length)
    tensors = {NAME: table, LENGTHS: torch.tensor(lengths, dtype=torch.int32), "w": torch.ones(2)}
    packed = packed_tables.pack(tensors)
    assert packed[NAME].shape == (sum(lengths),)
    back = packed_tables.unpack(Path("f"), packed)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], t) and back[name].dtype == t.dtype for name, t in tensors.items())


@pytest.mark.parametrize("lengths", [[3, 3], [-1, 8], [7, 1], [], [2**24, 7 - 2**24]])
def test_lengths_that_do_not_fit_are_refused(lengths: list[int]) -> None:
    bad = {NAME: torch.zeros(7, dtype=torch.int32), LENGTHS: torch.tensor(lengths, dtype=torch.int32)}
    if lengths == [7, 1]:
        bad[NAME] = bad[NAME][:6]
    with pytest.raises(ValueError, match=r"f: the lengths of its tables"):
        packed_tables.unpack(Path("f"), bad)
    with pytest.raises(ValueError, match="lengths"):
        packed_tables.unpack(Path("f"), {NAME: bad[NAME]})


def test_a_codec_in_float16_is_smaller_and_the_same(tmp_path: Path) -> None:
    """Saved again it stays as it is. The shipped tables were made on another machine, so last bits may differ."""
    shipped = model_file.load_codec(regicomp.SHIPPED)
    model_file.save_codec(tmp_path / "whole.safetensors", shipped.network, shipped.spec, shipped.run)
    model_file.save_codec(tmp_path / "half.safetensors", shipped.network, shipped.spec, shipped.run, half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "whole.safetensors").stat().st_size
    once = model_file.load_codec(tmp_path / "half.safetensors")
    model_file.save_codec(tmp_path / "again.safetensors", once.network, once.spec, once.run, half=True)
    again = model_file.load_codec(tmp_path / "again.safetensors")
    assert again.fingerprint == once.fingerprint
    state = once.network.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in again.network.state_dict().items())
    weights = dict(shipped.network.named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in once.network.named_parameters() if "quantiles" not in name)
