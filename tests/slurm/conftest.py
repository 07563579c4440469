"""A Slurm for every test of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import node
import pytest


@pytest.fixture(scope="session")
def slurm() -> Iterator[node.Node]:
    """A Slurm of this machine alone."""
    with node.running() as found:
        yield found
