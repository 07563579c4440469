"""The order of a patch's samples: a permutation, colours together, thumbnails first."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regicomp.source.base import to_patches
from regicomp.source.coarse_to_fine import CoarseToFine, coarse_to_fine

PATCHES = st.integers(1, 20)


def _positions(patch: int) -> list[tuple[int, int, int]]:
    """(colour, row, column) of each entry."""
    area = patch * patch
    return [(c // area, c % area // patch, c % patch) for c in coarse_to_fine(patch).tolist()]


@given(PATCHES)
@settings(deadline=None)
def test_is_a_permutation(patch: int) -> None:
    assert sorted(coarse_to_fine(patch).tolist()) == list(range(3 * patch * patch))


@given(PATCHES)
@settings(deadline=None)
def test_colours_of_a_position_stay_together(patch: int) -> None:
    entries = _positions(patch)
    for k in range(0, len(entries), 3):
        assert [colour for colour, _, _ in entries[k : k + 3]] == [0, 1, 2]
        assert len({(row, column) for _, row, column in entries[k : k + 3]}) == 1


@given(PATCHES)
@settings(deadline=None)
def test_first_samples_are_a_regular_lattice(patch: int) -> None:
    entries = _positions(patch)
    k = 0
    while patch % 2**k == 0:
        spacing = patch // 2**k
        lattice = {(i, j) for i in range(0, patch, spacing) for j in range(0, patch, spacing)}
        assert {(i, j) for _, i, j in entries[: 3 * 4**k]} == lattice
        k += 1


def test_is_adam7_for_patches_of_8() -> None:
    """Sizes of Adam7's passes, and the corner that each begins with."""
    positions = [(i, j) for _, i, j in _positions(8)][::3]
    starts = [0, 1, 2, 4, 8, 16, 32]
    assert [positions[k] for k in starts] == [(0, 0), (0, 4), (4, 0), (0, 2), (2, 0), (0, 1), (1, 0)]


def test_first_channels_are_a_thumbnail() -> None:
    image = torch.rand(1, 3, 32, 24)
    sort = CoarseToFine(8)
    grid = sort(to_patches(image, 8))
    assert torch.equal(grid[:, :3], image[..., ::8, ::8])


@given(st.integers(1, 6), st.data())
@settings(deadline=None, max_examples=25)
def test_parameters_come_back_in_the_order_of_patches(patch: int, data: st.DataObject) -> None:
    samples = 3 * patch * patch
    cut = data.draw(st.integers(0, samples))
    offsets, log_scales = torch.randn(2, 1, samples, 2, 3)
    sort = CoarseToFine(patch)
    halves = [sort(half).split([cut, samples - cut], dim=1) for half in (offsets, log_scales)]
    groups = [torch.cat(pair, dim=1) for pair in zip(*halves, strict=True)]
    assert torch.equal(sort.undo(groups), torch.cat([offsets, log_scales], dim=1))


def test_patch_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`patch` \(=0\)"):
        coarse_to_fine(0)
