"""Entropies of finite sources: the laws of information, on any distribution that hypothesis can think of."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regicomp.theory.information import Joint, chain

exact = settings(deadline=None, max_examples=40, derandomize=True)

CLOSE = 1e-12
# Exact zeros, ordinary numbers, and numbers so small that products of them underflow.
weights = st.one_of(st.just(0.0), st.floats(1e-3, 1.0), st.sampled_from([1e-300, 1e-12]))


@st.composite
def distributions(draw: st.DrawFn, shape: tuple[int, ...]) -> Tensor:
    size = math.prod(shape)
    drawn = torch.tensor(draw(st.lists(weights, min_size=size, max_size=size)), dtype=torch.float64)
    drawn[draw(st.integers(0, size - 1))] = 1.0  # at least one symbol occurs
    return (drawn / drawn.sum()).reshape(shape)


@st.composite
def joints(draw: st.DrawFn, names: str = "ABC") -> Joint:
    shape = tuple(draw(st.integers(1, 6)) for _ in names)
    return Joint(draw(distributions(shape)), tuple(names))


@st.composite
def channels(draw: st.DrawFn, inputs: int) -> Tensor:
    outputs = draw(st.integers(1, 6))
    return torch.stack([draw(distributions((outputs,))) for _ in range(inputs)])


@st.composite
def functions(draw: st.DrawFn, inputs: int) -> Tensor:
    return torch.tensor(draw(st.lists(st.integers(0, 5), min_size=inputs, max_size=inputs)))


@pytest.mark.parametrize(
    ("probabilities", "bits"),
    [
        ([1.0], 0.0),
        ([0.0, 1.0, 0.0], 0.0),
        ([0.5, 0.5], 1.0),
        ([0.5, 0.25, 0.125, 0.125], 1.75),
        ([0.5, 0.0, 0.25, 0.125, 0.0, 0.125], 1.75),
    ],
)
def test_known_entropies(probabilities: list[float], bits: float) -> None:
    assert Joint(torch.tensor(probabilities, dtype=torch.float64), "X").entropy("X") == bits


def test_known_information_of_a_binary_symmetric_channel() -> None:
    flip = 0.11
    channel = torch.tensor([[1 - flip, flip], [flip, 1 - flip]], dtype=torch.float64)
    joint = Joint(torch.full((2,), 0.5, dtype=torch.float64), "X").extend("Y", channel, of="X")
    noise = -flip * math.log2(flip) - (1 - flip) * math.log2(1 - flip)
    assert joint.entropy("Y", given="X") == pytest.approx(noise, abs=CLOSE)
    assert joint.information("X", "Y") == pytest.approx(1 - noise, abs=CLOSE)


@exact
@given(joints())
def test_chain_rule(joint: Joint) -> None:
    h = joint.entropy
    assert h(("A", "B", "C")) == pytest.approx(h("A") + h("B", "A") + h("C", ("A", "B")), abs=CLOSE)
    assert h(("A", "B"), "C") == pytest.approx(h("B", "C") + h("A", ("B", "C")), abs=CLOSE)


@exact
@given(joints())
def test_bounds(joint: Joint) -> None:
    for name in joint.names:
        assert -CLOSE <= joint.entropy(name) <= math.log2(joint.size(name)) + CLOSE
    assert joint.entropy("A", ("B", "C")) >= -CLOSE
    assert joint.entropy("A", "B") <= joint.entropy("A") + CLOSE
    assert joint.information("A", ("B", "C")) >= -CLOSE


@exact
@given(joints())
def test_information_is_symmetric_and_what_one_tells_of_the_other(joint: Joint) -> None:
    told = joint.information("A", "B")
    assert told == pytest.approx(joint.information("B", "A"), abs=CLOSE)
    assert told == pytest.approx(joint.entropy("A") - joint.entropy("A", "B"), abs=CLOSE)
    assert joint.information("A", "A") == pytest.approx(joint.entropy("A"), abs=CLOSE)
    assert joint.information("A", ()) == pytest.approx(0, abs=CLOSE)
    assert joint.entropy((), "A") == joint.entropy("A", ("A", "B")) == 0


@exact
@given(st.data(), joints("A"))
def test_data_processing(data: st.DataObject, joint: Joint) -> None:
    joint = joint.extend("B", data.draw(channels(joint.size("A"))), of="A")
    joint = joint.extend("C", data.draw(channels(joint.size("B"))), of="B")
    assert joint.information("A", "C") <= joint.information("A", "B") + CLOSE
    assert joint.information("A", "C") <= joint.information("B", "C") + CLOSE


@exact
@given(st.data(), joints("AB"))
def test_a_function_adds_no_information_and_keeps_the_rest(data: st.DataObject, joint: Joint) -> None:
    shape = (joint.size("B"), joint.size("A"))
    function = data.draw(functions(math.prod(shape))).reshape(shape)
    pushed = joint.push("C", function, of=("B", "A"))
    assert pushed.entropy("C", given=("A", "B")) == pytest.approx(0, abs=CLOSE)
    assert torch.equal(pushed.marginal(("A", "B")), joint.probabilities)
    for a, b in ((0, 0), (shape[1] - 1, shape[0] - 1)):
        assert pushed.probabilities[a, b, function[b, a]] == joint.probabilities[a, b]


@exact
@given(joints("ABC"))
def test_marginals_come_in_the_order_asked_for(joint: Joint) -> None:
    assert torch.allclose(joint.marginal(("C", "A")), joint.probabilities.sum(1).T, rtol=0, atol=CLOSE)
    assert torch.equal(joint.marginal(("B", "C", "A")), joint.probabilities.permute(1, 2, 0))


@exact
@given(st.data(), joints("AB"))
def test_cross_entropy_is_entropy_and_divergence(data: st.DataObject, joint: Joint) -> None:
    shape = (joint.size("B"), joint.size("A"))
    model = torch.stack([data.draw(distributions(shape[1:])) for _ in range(shape[0])])
    cross, gap = joint.cross_entropy("A", model, given="B"), joint.divergence("A", model, given="B")
    assert gap >= -CLOSE
    if math.isfinite(cross):
        assert cross == pytest.approx(joint.entropy("A", "B") + gap, rel=CLOSE, abs=CLOSE)
    else:  # the model excludes something that occurs
        assert bool(((joint.marginal(("B", "A")) > 0) & (model == 0)).any())


def test_the_true_model_has_no_divergence_even_with_zeros() -> None:
    joint = Joint(torch.tensor([[0.5, 0.0], [0.25, 0.25]], dtype=torch.float64), ("A", "B"))
    model = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    assert joint.divergence("B", model, given="A") == 0
    assert joint.cross_entropy("B", model, given="A") == joint.entropy("B", "A") == 0.5


@pytest.mark.parametrize(
    ("probabilities", "names", "message"),
    [
        (torch.tensor([0.5, 0.5]), "X", "torch.float64"),
        (torch.tensor([1.5, -0.5], dtype=torch.float64), "X", "at least 0"),
        (torch.tensor([math.nan, 1.0], dtype=torch.float64), "X", "finite"),
        (torch.tensor([0.5, 0.4], dtype=torch.float64), "X", "sum to 1"),
        (torch.tensor([], dtype=torch.float64), "X", "sum to 1"),
        (torch.tensor([[1.0]], dtype=torch.float64), "X", "2 axes"),
        (torch.tensor([[1.0]], dtype=torch.float64), ("X", "X"), "different"),
        (torch.tensor([1.0], dtype=torch.float64), "", "not empty"),
    ],
)
def test_what_is_no_distribution_is_refused(probabilities: Tensor, names: str | tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Joint(probabilities, names)


def test_what_does_not_fit_a_distribution_is_refused() -> None:
    joint = Joint(torch.full((2, 3), 1 / 6, dtype=torch.float64), ("A", "B"))
    half = torch.full((2, 2), 0.5, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"'C'.*must be among A, B"):
        joint.entropy("C")
    with pytest.raises(ValueError, match=r"shape \[2\]"):
        joint.push("C", torch.tensor([0, 1, 1]), of="A")
    with pytest.raises(ValueError, match=r"torch\.int64"):
        joint.push("C", torch.tensor([0.0, 1.0]), of="A")
    with pytest.raises(ValueError, match="at least 0"):
        joint.push("C", torch.tensor([0, -1]), of="A")
    with pytest.raises(ValueError, match="different"):
        joint.push("A", torch.tensor([0, 1]), of="A")
    with pytest.raises(ValueError, match="last axis"):
        joint.extend("C", torch.tensor(1.0, dtype=torch.float64), of=())
    with pytest.raises(ValueError, match="must have the shape"):
        joint.extend("C", half, of="B")
    with pytest.raises(ValueError, match="sum to 1"):
        joint.extend("C", half * 2, of="A")
    with pytest.raises(ValueError, match="must have the shape"):
        joint.cross_entropy("A", half, given="B")
    with pytest.raises(ValueError, match="different"):
        joint.cross_entropy("A", half, given="A")


@exact
@given(st.data(), joints("A"))
def test_a_chain_has_the_entropies_of_its_table(data: st.DataObject, joint: Joint) -> None:
    code = data.draw(functions(joint.size("A")))
    synthesis = data.draw(functions(6))
    table = joint.push("U", code, of="A").push("X_hat", synthesis[: int(code.max()) + 1], of="U")
    found = chain(joint.probabilities, code * 7 - 3, synthesis[code])  # any labels will do
    expected = (
        table.entropy("A"),
        table.entropy("U"),
        table.entropy("X_hat"),
        table.entropy("A", given="X_hat"),
        table.entropy("U", given="X_hat"),
    )
    assert found == pytest.approx(expected, abs=CLOSE)
    assert found.off <= CLOSE


def test_a_chain_refuses_what_is_none() -> None:
    half, apart = torch.full((2,), 0.5, dtype=torch.float64), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="`x_hat` must be a function of `u`"):
        chain(half, torch.tensor([0, 0]), apart)
    with pytest.raises(ValueError, match="`probabilities`"):
        chain(2 * half, apart, apart)
