"""Joint distributions of a few variables over finite alphabets, and their entropies in bits.

Everything is float64, exact where a probability is zero (0 log 0 = 0), and computed from its own definition:
H(A|B) is the mean of -log2 p(a|b), I(A;B) that of log2 p(a,b)/(p(a)p(b)), neither a difference of entropies.
So an equality between such quantities is a statement that can fail, not the same sum written twice.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

Names = str | tuple[str, ...]

_SUM_TOLERANCE = 1e-12


def _tuple(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _check_masses(argument: str, masses: Tensor, sums: Tensor) -> None:
    """Refuse what is not float64, has a negative or infinite entry, or sums to something else than one."""
    if masses.dtype != torch.float64:
        raise ValueError(f"`{argument}` (of {masses.dtype}) must be a tensor of torch.float64")
    if not bool(torch.isfinite(masses).all()) or bool((masses < 0).any()):
        worst = masses[~torch.isfinite(masses) | (masses < 0)].flatten()[0]
        raise ValueError(f"`{argument}` (with the entry {worst:g}) must hold finite numbers of at least 0")
    off = (sums - 1).abs().max() if sums.numel() else torch.tensor(1.0)
    if off > _SUM_TOLERANCE:
        raise ValueError(f"`{argument}` (off by {off:g}) must sum to 1 within {_SUM_TOLERANCE:g}")


class Joint:
    """A joint distribution p(a, b, …): one axis a variable, each with a name.

    A coding chain is a source extended by what is computed from it::

        Joint(p, "X").push("U", code, of="X").push("X_hat", synthesis, of="U")

    Wherever a method takes a variable's name, it also takes a tuple of names: their joint value. The empty
    tuple is a constant.

    Args:
        probabilities: float64, one axis a variable, non-negative, sum 1.
        names: of the axes, all different.

    Raises:
        ValueError: that is no distribution, or the names do not fit it.
    """

    def __init__(self, probabilities: Tensor, names: Names) -> None:
        names = _tuple(names)
        if len(set(names)) != len(names) or not all(names):
            raise ValueError(f"`names` (={names}) must all be different and not empty")
        if len(names) != probabilities.dim():
            raise ValueError(f"`names` (={names}) must be as many as the {probabilities.dim()} axes")
        _check_masses("probabilities", probabilities, probabilities.sum())
        self.probabilities = probabilities
        self.names = names

    def size(self, name: str) -> int:
        """Number of symbols in a variable's alphabet."""
        return self.probabilities.shape[self._axes(name)[0]]

    def marginal(self, names: Names) -> Tensor:
        """Probabilities of some of the variables, axes in the order asked for."""
        axes = self._distinct_axes(names)
        rest = tuple(axis for axis in range(len(self.names)) if axis not in axes)
        kept = self.probabilities.sum(rest) if rest else self.probabilities
        return kept.permute([sorted(axes).index(axis) for axis in axes])

    def push(self, name: str, function: Tensor, of: Names) -> Joint:
        """Extend by a variable that is a function of others.

        Args:
            name: of the new variable.
            function: int64, one axis a variable of `of`: the new variable's value, from 0.
            of: the variables it depends on.

        Returns:
            The distribution with the new variable as last axis; its alphabet ends at the greatest value.

        Raises:
            ValueError: `function` is not a table over the alphabets of `of`, or a name is unknown or taken.
        """
        shape = [self.size(one) for one in _tuple(of)]
        if function.dtype != torch.int64 or list(function.shape) != shape:
            raise ValueError(
                f"`function` (of {function.dtype}, shape {list(function.shape)}) must be of torch.int64, shape {shape}"
            )
        if bool((function < 0).any()):
            raise ValueError(f"`function` (with the value {int(function.min())}) must hold values of at least 0")
        return self.extend(name, torch.nn.functional.one_hot(function).double(), of)

    def extend(self, name: str, channel: Tensor, of: Names) -> Joint:
        """Extend by a variable that is drawn given others.

        Args:
            name: of the new variable.
            channel: float64, one axis a variable of `of`, then the new variable's, along which it sums to 1.
            of: the variables it depends on; given them it is independent of the rest.

        Raises:
            ValueError: `channel` is no conditional distribution over these alphabets, or a name is wrong.
        """
        if channel.dim() == 0:
            raise ValueError("`channel` (a number) must have a last axis for the new variable")
        self._check_conditional("channel", channel, [*self._shape(of), channel.shape[-1]], given=len(_tuple(of)))
        table = self._broadcast(channel, of, trailing=1)
        return Joint(self.probabilities[..., None] * table, (*self.names, name))

    def entropy(self, names: Names, given: Names = ()) -> float:
        """H(names | given) in bits."""
        together = self._bits((*_tuple(names), *_tuple(given)))
        return self._mean(together - self._bits(given))

    def information(self, one: Names, other: Names) -> float:
        """I(one; other) in bits."""
        together = self._bits((*_tuple(one), *_tuple(other)))
        return self._mean(self._bits(one) + self._bits(other) - together)

    def cross_entropy(self, names: Names, model: Tensor, given: Names = ()) -> float:
        """Mean bits that a code made for `model` spends on `names` once `given` is known.

        Infinite if the model excludes what can occur.

        Args:
            names: the variables that are coded.
            model: float64 q(names | given); axes of `given` first, sum 1 over the axes of `names`.
            given: what both sides of the code know.

        Raises:
            ValueError: `model` is no conditional distribution over these alphabets, or a name is unknown.
        """
        return self._mean(self.code_length(names, model, given))

    def divergence(self, names: Names, model: Tensor, given: Names = ()) -> float:
        """KL(p‖model) in bits, averaged over `given`: what `cross_entropy` spends too much."""
        together = self._bits((*_tuple(names), *_tuple(given)))
        return self._mean(self.code_length(names, model, given) - (together - self._bits(given)))

    def code_length(self, names: Names, model: Tensor, given: Names = ()) -> Tensor:
        """-log2 model for each outcome, broadcastable to `probabilities`."""
        shape = self._shape(given) + self._shape(names)
        self._check_conditional("model", model, shape, given=len(_tuple(given)))
        return -torch.log2(self._broadcast(model, (*_tuple(given), *_tuple(names))))

    def _axes(self, names: Names) -> list[int]:
        for name in _tuple(names):
            if name not in self.names:
                raise ValueError(f"`names` (with {name!r}) must be among {', '.join(self.names)}")
        return [self.names.index(name) for name in _tuple(names)]

    def _distinct_axes(self, names: Names) -> list[int]:
        axes = self._axes(names)
        if len(set(axes)) != len(axes):
            raise ValueError(f"`names` (={_tuple(names)}) must all be different")
        return axes

    def _shape(self, names: Names) -> list[int]:
        return [self.probabilities.shape[axis] for axis in self._axes(names)]

    def _check_conditional(self, argument: str, table: Tensor, shape: list[int], given: int) -> None:
        if list(table.shape) != shape:
            raise ValueError(f"`{argument}` (of shape {list(table.shape)}) must have the shape {shape}")
        over = tuple(range(given, table.dim()))
        _check_masses(argument, table, table.sum(over) if over else table)

    def _broadcast(self, table: Tensor, names: Names, trailing: int = 0) -> Tensor:
        """A table over some variables, and `trailing` axes more, laid along this distribution's axes."""
        axes = self._distinct_axes(names)
        order = sorted(range(len(axes)), key=axes.__getitem__)
        table = table.permute(*order, *range(len(axes), len(axes) + trailing))
        shape = [size if axis in axes else 1 for axis, size in enumerate(self.probabilities.shape)]
        return table.reshape(shape + list(table.shape[len(axes) :]))

    def _bits(self, names: Names) -> Tensor:
        """-log2 p(names) for each outcome, broadcastable to `probabilities`."""
        axes = self._axes(names)
        rest = tuple(axis for axis in range(len(self.names)) if axis not in axes)
        return -torch.log2(self.probabilities.sum(rest, keepdim=True) if rest else self.probabilities)

    def _mean(self, values: Tensor) -> float:
        """Mean over the outcomes that can occur; `values` elsewhere do not count, even if infinite."""
        possible = self.probabilities > 0
        return float((self.probabilities[possible] * values.expand_as(self.probabilities)[possible]).sum())


class Chain(NamedTuple):
    """Entropies of a deterministic chain X -> U -> X̂, in bits."""

    source: float  # H(X)
    code: float  # H(U)
    picture: float  # H(X̂)
    source_given_picture: float  # H(X|X̂)
    code_given_picture: float  # H(U|X̂)

    @property
    def off(self) -> float:
        """How far H(U) = H(X) - H(X|X̂) + H(U|X̂) is from holding."""
        return abs(self.code - (self.source - self.source_given_picture + self.code_given_picture))


def chain(probabilities: Tensor, u: Tensor, x_hat: Tensor) -> Chain:
    """Entropies of a chain whose table X × U × X̂ would not fit into memory, each from its own definition.

    Args:
        probabilities: float64 of each outcome of X, (n,), sum 1.
        u: int64, (n,): the code of each outcome.
        x_hat: int64, (n,): which reconstruction each outcome ends as; a function of `u`.

    Raises:
        ValueError: that is no distribution, or two outcomes of one code end as different reconstructions.
    """
    _check_masses("probabilities", probabilities, probabilities.sum())
    u, x_hat = (torch.unique(values, return_inverse=True)[1] for values in (u, x_hat))
    picture_of = torch.zeros(len(u), dtype=torch.int64).scatter_(0, u, x_hat)
    if not torch.equal(picture_of[u], x_hat):
        raise ValueError("`x_hat` must be a function of `u`")
    occurs = probabilities > 0
    p, u, x_hat = probabilities[occurs], u[occurs], x_hat[occurs]
    of_code = torch.zeros(len(picture_of), dtype=torch.float64).index_add(0, u, p)
    of_picture = torch.zeros(len(picture_of), dtype=torch.float64).index_add(0, x_hat, p)

    def bits(mass: Tensor, weight: Tensor) -> float:
        return 0.0 - float((weight * torch.log2(mass))[weight > 0].sum())

    return Chain(
        source=bits(p, p),
        code=bits(of_code, of_code),
        picture=bits(of_picture, of_picture),
        source_given_picture=bits(p / of_picture[x_hat], p),
        code_given_picture=bits(of_code / of_picture[picture_of[: len(of_code)]], of_code),
    )
