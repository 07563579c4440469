"""Faults of processes: killed, told to leave, started twice, under a clock that goes backwards."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import harness
import injections
import psutil
from benches import Bench, Row
from harness import TinySweep


def kills(bench: Bench, count: int) -> Row:
    """SIGKILL at random moments until `count` have hit; whatever run is then under way is finished and compared."""
    hit, runs, good, kept = 0, 0, 0, True
    length = 3.0  # seconds that an unhindered rest of the run may take; adapted to what is seen
    while hit < count:
        tiny = bench.tiny(f"kills{runs}")
        runs += 1
        step = 0
        while hit < count:
            process = harness.start(tiny)
            started = time.monotonic()
            process.process.join(bench.random.uniform(0.2, 1.2 * length))
            process.signal(signal.SIGKILL)
            status = process.wait()
            if status == 0:
                length = time.monotonic() - started
                break
            if status != -signal.SIGKILL:
                raise RuntimeError(process.said()[-2000:])
            length = min(60.0, max(length, 1.1 * (time.monotonic() - started)))
            hit += 1
            now = harness.newest_step(tiny.run)
            kept = kept and now >= step  # nothing that was stored is gone
            step = now
        harness.finish(tiny)
        good += not harness.differences(tiny.run, bench.reference)
        print(f"  {hit} kills, {runs} runs, {good} of them right", flush=True)
    note = f"{runs} runs with their evaluation; each then equal to the undisturbed one to the bit"
    return Row("SIGKILL at a random moment", count, count if kept and good == runs else 0, note)


def sweep_kills(bench: Bench, count: int) -> Row:
    """SIGKILL of a sweep at random moments until `count` have hit, then one more start: runs and report compared."""
    reference = TinySweep(bench.root / "sweep-reference", bench.images)
    started = time.monotonic()
    harness.finish(reference)
    length = time.monotonic() - started
    expected = harness.report(reference.run, bench.root / "sweep-report-reference")
    hit, sweeps, good, kept = 0, 0, 0, True
    while hit < count:
        sweep = TinySweep(bench.root / f"sweep{sweeps}", bench.images)
        sweeps += 1
        finished: list[str] = []
        while hit < count:
            process = harness.start(sweep)
            process.process.join(bench.random.uniform(0.1, 0.7) * length)
            process.signal(signal.SIGKILL)
            status = process.wait()
            if status == 0:
                break
            if status != -signal.SIGKILL:
                raise RuntimeError(process.said()[-2000:])
            hit += 1
            kept = kept and set(finished) <= set(sweep.runs())
            finished = sweep.runs()
        said = harness.finish(sweep)
        kept = kept and said.count("holds the finished run") >= len(finished)
        same = sweep.runs() == reference.runs() and not any(
            harness.differences(sweep.run / name, reference.run / name, _results_of(reference.run / name))
            for name in reference.runs()
        )
        report = harness.report(sweep.run, bench.root / f"sweep-report{sweeps}")
        good += same and report == expected
        print(f"  {hit} kills, {sweeps} sweeps of {len(reference.runs())} runs, {good} of them right", flush=True)
    note = f"{sweeps} sweeps of {len(reference.runs())} runs; each then, and its report, equal to the undisturbed one's"
    return Row("SIGKILL of a sweep", count, count if kept and good == sweeps else 0, note)


def _results_of(run: Path) -> list[str]:
    """The results that a run has: one without α has no q_θ."""
    return [name for name in harness.RESULTS if (run / name).exists()]


def signals(bench: Bench, tries: int) -> Row:
    """SIGTERM and SIGUSR1 in turn while training: exit 75 with a checkpoint of that very update; then resumed."""
    survived = 0
    for k in range(tries):
        tiny = bench.tiny(f"signal{k}")
        process = harness.start(tiny)
        harness.wait_for_rows(tiny, bench.random.randrange(3, harness.STEPS - 4), process)
        process.signal((signal.SIGTERM, signal.SIGUSR1)[k % 2])
        status = process.wait()
        rows = (tiny.run / "metrics.csv").read_text().splitlines()
        at_once = harness.newest_step(tiny.run) == int(rows[-1].split(",")[0])
        harness.finish(tiny)
        survived += status == 75 and at_once and not harness.differences(tiny.run, bench.reference)
    return Row(
        "SIGTERM, SIGUSR1", tries, survived, "exit status 75, checkpoint of that update; resumed to the same bits"
    )


def interrupts(bench: Bench, tries: int) -> Row:
    """SIGINT, as by Ctrl-C, while training: exit 130 with a checkpoint of that very update; then resumed."""
    survived = 0
    for k in range(tries):
        tiny = bench.tiny(f"interrupt{k}")
        process = harness.start(tiny)
        harness.wait_for_rows(tiny, bench.random.randrange(3, harness.STEPS - 4), process)
        process.signal(signal.SIGINT)
        status = process.wait()
        rows = (tiny.run / "metrics.csv").read_text().splitlines()
        at_once = harness.newest_step(tiny.run) == int(rows[-1].split(",")[0])
        told = f"hydra.run.dir={tiny.run} ckpt=last goes on" in process.said() and "Traceback" not in process.said()
        harness.finish(tiny)
        survived += status == 130 and at_once and told and not harness.differences(tiny.run, bench.reference)
    return Row("SIGINT (Ctrl-C)", tries, survived, "exit status 130 and how to go on; resumed to the same bits")


def group(bench: Bench, tries: int) -> Row:
    """SIGTERM and SIGINT in turn to the whole process group of a run whose data workers are processes, too."""
    survived = 0
    for k in range(tries):
        tiny = bench.tiny(f"group{k}")
        process = harness.start(tiny, "data.workers=2", before=injections.own_group)
        harness.wait_for_rows(tiny, bench.random.randrange(3, harness.STEPS - 4), process)
        number, expected = ((signal.SIGTERM, 75), (signal.SIGINT, 130))[k % 2]
        harness.signal_group(process, number)
        status = process.wait()
        stored = harness.newest_step(tiny.run)
        harness.finish(tiny)
        survived += status == expected and stored > 0 and not harness.differences(tiny.run, bench.reference)
    return Row(
        "SIGTERM, SIGINT to the group", tries, survived, "with two data workers; exit status 75 or 130; the same bits"
    )


def frozen(bench: Bench, tries: int) -> Row:
    """SIGSTOP and, seconds later, SIGCONT to the whole group of a run with data workers."""
    survived = 0
    for k in range(tries):
        tiny = bench.tiny(f"frozen{k}")
        process = harness.start(tiny, "data.workers=1", before=injections.own_group)
        harness.wait_for_rows(tiny, bench.random.randrange(3, harness.STEPS - 4), process)
        harness.signal_group(process, signal.SIGSTOP)
        time.sleep(2.0)
        harness.signal_group(process, signal.SIGCONT)
        survived += process.wait() == 0 and not harness.differences(tiny.run, bench.reference)
    return Row("SIGSTOP, then SIGCONT", tries, survived, "the run goes on; the same bits")


def killed_worker(bench: Bench, tries: int) -> Row:
    """SIGKILL of a data worker, as by the kernel where memory is short: a line, exit status 2; then resumed."""
    survived = 0
    for k in range(tries):
        tiny = bench.tiny(f"worker{k}")
        process = harness.start(tiny, "data.workers=1")
        harness.wait_for_rows(tiny, bench.random.randrange(harness.EVERY, harness.STEPS - 6), process)
        for child in psutil.Process(process.process.pid).children():
            child.kill()
        status, said = process.wait(), process.said()
        told = status == 0 or (said.count("error: a process that loads data failed") == 1 and "Traceback" not in said)
        harness.finish(tiny)
        survived += status in (0, 2) and told and not harness.differences(tiny.run, bench.reference)
    return Row("a data worker killed", tries, survived, "one line, exit 2 (0 at the end); resumed to the same bits")


def two_runs(bench: Bench, tries: int) -> Row:
    """A second run is started in the directory of one that trains."""
    survived = 0
    for k in range(tries):
        tiny = bench.tiny(f"two{k}")
        first = harness.start(tiny)
        harness.wait_for_rows(tiny, 2, first)
        first.signal(signal.SIGSTOP)  # that it does not end before the second begins
        second = harness.start(tiny)
        refused = second.wait() == 2 and "in use by process" in second.said()
        first.signal(signal.SIGCONT)
        survived += refused and first.wait() == 0 and not harness.differences(tiny.run, bench.reference)
    return Row("two runs in one directory", tries, survived, "the second refused in a line; the first undisturbed")


def clock(bench: Bench) -> Row:
    """The clock goes back an hour at each look, in a run that is killed and resumed; checkpoints' dates reversed."""
    tiny = bench.tiny("clock")
    process = harness.start(tiny, before=injections.clock_backwards)
    harness.wait_for_rows(tiny, 10, process)
    process.signal(signal.SIGKILL)
    process.wait()
    for age, path in enumerate(sorted((tiny.run / "checkpoints").iterdir())):
        os.utime(path, (10**9 - age, 10**9 - age))
    harness.finish(tiny, before=injections.clock_backwards)
    good = not harness.differences(tiny.run, bench.reference)
    return Row("clock going backwards", 1, int(good), "killed and resumed under it; the same bits")
