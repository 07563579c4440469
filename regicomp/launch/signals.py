"""SIGTERM and SIGUSR1: the run writes a checkpoint and exits with a status on which a scheduler can requeue it.

In a job of a sweep that submitit started, so does submitit's signal, SIGUSR2, and the job is put back into the queue by
submitit's own handler once the run has written it. A worker process of joblib exits when the sweep that started
it is gone: a sweep that was killed must not go on training while another one is started in its place.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_LOOK_SECONDS = 0.5  # between two checks whether the starting process is alive
REQUEUE = 75
"""Exit status of a run that was asked to leave and can go on (EX_TEMPFAIL of sysexits.h); ckpt=last goes on."""
INTERRUPTED = 130
"""Exit status of a run that Ctrl-C asked to leave."""


class _State:
    pending: signal.Signals | None = None
    training = False
    how = ""  # to go on, told when a signal ends the process
    requeue: Callable[[int, FrameType | None], object] | None = None  # submitit's own handler


def _of_submitit() -> signal.Signals | None:
    """The signal by which submitit asks a job to leave, in such a job."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return None
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]


def status(signum: signal.Signals | None) -> int:
    """Exit status of a process that leaves in order on a signal: as a shell has it after Ctrl-C, else REQUEUE."""
    return INTERRUPTED if signum == signal.SIGINT else REQUEUE


def _signals() -> list[signal.Signals]:
    further = _of_submitit()
    return [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, *([further] if further else [])]


def _say(line: str) -> None:
    os.write(2, f"{line}\n".encode())  # not print(): the handler may have interrupted one


def _handle(signum: int, frame: FrameType | None) -> None:
    del frame
    name = signal.Signals(signum).name
    if _State.pending is not None:
        _say(f"{name} again: ending at once; {_State.how} from the newest checkpoint")
        _back_into_the_queue(signum)
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
        return
    _State.pending = signal.Signals(signum)
    if not _State.training:  # everything on the disk is whole, and what is missing is computed again
        _say(f"{name}: ending with status {status(_State.pending)}; {_State.how}")
        raise SystemExit(status(_State.pending))
    _say(
        f"{name}: checkpoint at the next update, then exit {status(_State.pending)}; a second signal ends at once; "
        f"{_State.how}"
    )


def _slurm_job() -> str:
    """This job's id. The last task of an array bears the array's own number, by which all of its tasks are meant."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def _back_into_the_queue(signum: int) -> None:
    """Requeue the job and end the process, in a job of submitit; else do nothing.

    Slurm requeues by itself only what it kills: a job that it displaces and gives time to leave, or that is signalled
    by hand, counts as failed when it ends, unless the cluster's RequeueExit has our status. One that was cancelled, or
    that Slurm requeues already, no longer counts as running and is left alone.
    """
    handler = _State.requeue
    if handler is None:
        return
    for number in _signals():  # none may come between: whoever displaces the job kills it in the end anyway
        signal.signal(number, signal.SIG_IGN)
    if os.environ["SUBMITIT_EXECUTOR"] == "slurm":
        asked = ["squeue", "--noheader", "--format=%T", f"--jobs={_slurm_job()}"]
        running = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == "RUNNING"
    else:
        running = signum == _of_submitit()
    if running:
        _State.requeue = None
        handler(signum, None)


def _install() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in _signals():
            signal.signal(number, _handle)


@contextlib.contextmanager
def _bound_to_parent() -> Iterator[None]:
    """Within, a process that another Python has started as a worker is asked to leave when that one is gone.

    Then the process ends with the block, with status REQUEUE: joblib's workers would wait minutes for another task.
    """
    if multiprocessing.current_process().name == "MainProcess":
        yield
        return
    parent, over = os.getppid(), threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_SECONDS):
            if os.getppid() != parent:
                _say("the process that started this one is gone")
                os.kill(os.getpid(), signal.SIGTERM)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        if os.getppid() != parent:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(REQUEUE)


@contextlib.contextmanager
def requeued(how: str = "ckpt=last goes on") -> Iterator[None]:
    """Within, SIGTERM, SIGINT and SIGUSR1 end the process in order: while training after a checkpoint, else at once.

    Args:
        how: to go on afterwards, as it is told.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _signals()} if main else {}
    submitits = before.get(_of_submitit() or signal.SIGTERM)
    _State.pending, _State.training, _State.how = None, False, how
    _State.requeue = submitits if _of_submitit() and callable(submitits) else None
    _install()
    try:
        with _bound_to_parent():
            yield
    except SystemExit as left:
        if left.code in (REQUEUE, INTERRUPTED) and _State.pending is not None:
            _back_into_the_queue(_State.pending)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.pending = _State.requeue = None


@contextlib.contextmanager
def while_training() -> Iterator[None]:
    """Within, a signal waits for the next update's end (`asked`); afterwards the process leaves.

    Raises:
        SystemExit: with the signal's `status`, at the end, if one came.
    """
    _State.training = True
    try:
        yield
    finally:
        _State.training = False
    if _State.pending is not None:
        raise SystemExit(status(_State.pending))


def left_alone(worker: int = 0) -> None:
    """In a process that loads data (a DataLoader's `worker_init_fn`): signals sent to the whole group are the run's.

    The first SIGTERM too; the second is the run's own, which ends its workers so.
    """
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))


def leave_sweep_on_interrupt() -> None:
    """In a process that hands out a sweep's runs to others: Ctrl-C ends it, and they leave in order as it is gone."""

    def leave(signum: int, frame: FrameType | None) -> None:
        _say("SIGINT: the runs under way leave after a checkpoint at their next update; the same command goes on")
        os._exit(INTERRUPTED)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, leave)


def take_over() -> None:
    """Replace the handlers that Lightning has put before ours, so that a signal is handled once."""
    if any(signal.getsignal(number) is not _handle for number in _signals()) and _State.training:
        _install()


def follow() -> None:
    """Another process of the run was asked to leave: so was this one."""
    _State.pending = _State.pending or signal.SIGTERM


def asked() -> bool:
    """Whether a signal has come."""
    return _State.pending is not None
