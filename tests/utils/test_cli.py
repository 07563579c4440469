"""Mistakes and interrupts are a line."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from regicomp.utils import cli
from regicomp.utils.pool import process_pool


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_is_a_line_and_a_second_ends_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, cli.told_in_one_line("the same command goes on"):
        raise KeyboardInterrupt
    assert left.value.code == 130
    assert capsys.readouterr().err == "stopped; the same command goes on\n"
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def _interrupted() -> list[Future[int]]:
    waiting: list[Future[int]] = []
    with contextlib.suppress(KeyboardInterrupt), process_pool(1) as pool:
        asked = pool.submit(signal.getsignal, signal.SIGINT)
        assert asked.result() == signal.SIG_DFL  # Ctrl-C ends the pool's processes without a word
        waiting += [pool.submit(sum, range(10**6)) for _ in range(200)]
        raise KeyboardInterrupt
    return waiting


def test_an_interrupt_drops_what_a_pool_had_not_begun() -> None:
    assert any(future.cancelled() for future in _interrupted())
