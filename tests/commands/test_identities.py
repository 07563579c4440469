"""The identities hold for every source and every deterministic code, and the check sees where they do not."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regicomp import identities
from regicomp.theory import identity_checks, identity_tables
from regicomp.theory.identity_checks import TOLERANCE, Identity
from regicomp.theory.information import Joint

exact = settings(deadline=None, max_examples=40, derandomize=True)


@st.composite
def sources(draw: st.DrawFn, symbols: int | None = None) -> Tensor:
    size = symbols or draw(st.integers(1, 6))
    counts = draw(st.lists(st.integers(0, 20), min_size=size, max_size=size))
    counts[draw(st.integers(0, size - 1))] += 1
    drawn = torch.tensor(counts, dtype=torch.float64)
    return drawn / drawn.sum()


@st.composite
def maps(draw: st.DrawFn, inputs: int) -> Tensor:
    return torch.tensor(draw(st.lists(st.integers(0, 5), min_size=inputs, max_size=inputs)))


@st.composite
def coded(draw: st.DrawFn) -> Joint:
    """X -> U by any map."""
    source = draw(sources())
    return Joint(source, "X").push("U", draw(maps(len(source))), of="X")


def models(joint: Joint, u: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Arbitrary p(u) and q(x|x̂)."""
    generator = torch.Generator().manual_seed(joint.probabilities.numel())
    latent = torch.rand([joint.size(name) for name in u], dtype=torch.float64, generator=generator) + 1e-3
    source = torch.rand(joint.size("X_hat"), joint.size("X"), dtype=torch.float64, generator=generator) + 1e-3
    return latent / latent.sum(), source / source.sum(1, keepdim=True)


def assert_all_hold(rows: list[Identity]) -> None:
    for row in rows:
        assert row.excess <= TOLERANCE, row


@exact
@given(st.data(), coded())
def test_direct_coding(data: st.DataObject, joint: Joint) -> None:
    dequantizer = torch.tensor(data.draw(st.permutations(range(joint.size("U")))))
    joint = joint.push("X_hat", dequantizer, of="U")
    assert_all_hold(identity_checks.direct(joint))
    assert_all_hold(identity_checks.transform(joint))
    assert_all_hold(identity_checks.lossless(joint, *models(joint, ("U",))))


@exact
@given(st.data(), coded())
def test_transform_coding(data: st.DataObject, joint: Joint) -> None:
    joint = joint.push("X_hat", data.draw(maps(joint.size("U"))), of="U")
    assert_all_hold(identity_checks.transform(joint))
    assert_all_hold(identity_checks.lossless(joint, *models(joint, ("U",))))


@exact
@given(st.data(), sources())
def test_transform_coding_with_side_information(data: st.DataObject, source: Tensor) -> None:
    joint = Joint(source, "X").push("Y", data.draw(maps(len(source))), of="X")
    joint = joint.push("Z", data.draw(maps(len(source))), of="X")
    u, shape = ("Y", "Z"), (joint.size("Y"), joint.size("Z"))
    joint = joint.push("X_hat", data.draw(maps(shape[0] * shape[1])).reshape(shape), of=u)
    assert_all_hold(identity_checks.transform(joint, u))
    assert_all_hold(identity_checks.side_information(joint))
    assert_all_hold(identity_checks.lossless(joint, *models(joint, u), u))


@exact
@given(st.data(), coded())
def test_ideal_models_and_an_injective_synthesis_meet_the_bound(data: st.DataObject, joint: Joint) -> None:
    joint = joint.push("X_hat", torch.tensor(data.draw(st.permutations(range(joint.size("U"))))), of="U")
    together = joint.marginal(("X_hat", "X"))
    given_x_hat = together / together.sum(1, keepdim=True)
    unused = torch.zeros(joint.size("X"), dtype=torch.float64)
    unused[0] = 1.0
    conditional = torch.where(given_x_hat.isnan(), unused, given_x_hat)
    bound = identity_checks.lossless(joint, joint.marginal("U"), conditional)[0]
    assert bound.left == pytest.approx(bound.right, abs=TOLERANCE)


def test_a_stochastic_quantizer_breaks_both() -> None:
    flip = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    joint = Joint(torch.tensor([0.3, 0.7], dtype=torch.float64), "X").extend("U", flip, of="X")
    joint = joint.push("X_hat", torch.tensor([0, 1]), of="U")
    off = {row.statement: row.excess for row in identity_checks.direct(joint) + identity_checks.transform(joint)}
    noise = joint.entropy("U", given="X")
    assert noise > 0.1
    for statement in ("I(X;X̂) = H(U)", "H(X) = H(X|X̂) + H(U)", "H(U) = H(X) - H(X|X̂) + H(U|X̂)"):
        assert off[statement] == pytest.approx(noise, abs=TOLERANCE)


def test_a_stochastic_synthesis_breaks_transform_coding() -> None:
    flip = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    joint = Joint(torch.tensor([0.3, 0.7], dtype=torch.float64), "X").push("U", torch.tensor([0, 1]), of="X")
    off = [row.excess for row in identity_checks.transform(joint.extend("X_hat", flip, of="U"))]
    assert min(off[:2]) > 0.1


def test_two_codes_to_one_picture_break_direct_coding_by_their_price() -> None:
    joint = Joint(torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64), "X")
    joint = joint.push("U", torch.tensor([0, 1, 2]), of="X").push("X_hat", torch.tensor([0, 1, 1]), of="U")
    assert joint.entropy("U", given="X_hat") == 0.5
    assert [row.excess for row in identity_checks.direct(joint)] == pytest.approx([0.5, 0.5, 0.5])
    assert_all_hold(identity_checks.transform(joint))


def test_side_information_that_the_picture_does_not_tell_has_a_price() -> None:
    """An injective synthesis of Ŷ alone does not make H(U|X̂) zero."""
    joint = Joint(torch.full((4,), 0.25, dtype=torch.float64), "X").push("Y", torch.tensor([0, 0, 1, 1]), "X")
    joint = joint.push("Z", torch.tensor([0, 1, 0, 1]), "X").push("X_hat", torch.tensor([0, 1]), "Y")
    assert joint.entropy("Y", given="X_hat") == 0
    assert joint.entropy(("Y", "Z"), given="X_hat") == joint.entropy("Z", given="Y") == 1


def test_a_nan_never_passes() -> None:
    assert Identity("0 = nan", 0.0, float("nan")).excess > TOLERANCE
    assert Identity("nan ≥ 0", float("nan"), 0.0, "≥").excess > TOLERANCE


def test_the_command_prints_and_succeeds() -> None:
    command = [sys.executable, "-W", "error", "-m", "regicomp.identities", "--sources", "1", "--symbols", "4"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for setting in identity_checks.SETTINGS:
        assert setting.name in done.stdout
    for shown in ("H(X) = H(X|X̂) + H(U)", "H(U) = H(X) - H(X|X̂) + H(U|X̂)", "R + H_θ ≥ H(X)", "6 of 6"):
        assert shown in done.stdout
    assert "no optimum in common" in done.stdout


def test_the_command_fails_where_an_identity_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Direct coding's identities, claimed for a synthesis that maps two codes to one picture."""
    name = "transform coding, two codes to one picture"
    wrong = [
        setting._replace(checks=identity_checks.direct) if setting.name == name else setting
        for setting in identity_checks.SETTINGS
    ]
    monkeypatch.setattr(identity_tables, "SETTINGS", tuple(wrong))
    assert identities.main(["--sources", "1"]) == 1
    assert "3 of the checks above fail" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--sources", "0"], ["--symbols", "1"], ["--symbols", "11"], ["--seed", "-1"]])
def test_arguments_out_of_range_are_refused(wrong: list[str]) -> None:
    with pytest.raises(ValueError, match=f"`{wrong[0]}` \\(={wrong[1]}\\) must be an integer"):
        identities.main(wrong)
