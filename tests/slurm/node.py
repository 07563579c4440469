"""A real Slurm of one node, this machine, without systemd: `python tests/slurm/node.py [COMMAND …]`.

Installs nothing: it needs Debian's slurm-wlm and munge (`make test-slurm` installs them). Everything it writes is in
one new folder, on free ports of 127.0.0.1, so that it disturbs no other Slurm. The COMMAND (by default a shell) runs
with SLURM_CONF set; when it ends the daemons are ended and the folder is removed. REGICOMP_SLURM_CPUS: cores that the
cluster has, all by default.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
_SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
_SECONDS = 60  # for a daemon to answer

# Two partitions: a job in `urgent` takes the cores of one in `usual`, which is requeued, after 30 s to leave.
# cred_expire is also how long Slurm lets a requeued job wait (120 s by default). No RequeueExit: few clusters have it.
_CONFIGURATION = """\
ClusterName=regicomp
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=usual Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=2
"""


class Node(NamedTuple):
    """A running Slurm of one node."""

    folder: Path
    cpus: int
    environment: dict[str, str]  # for commands that shall use it

    def ask(self, *command: str) -> str:
        """The output of a Slurm command."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, env=self.environment)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def job(self, job_id: str) -> dict[str, str]:
        """The output of `scontrol show job` for one job."""
        words = self.ask("scontrol", "--oneliner", "show", "job", job_id).split()
        return dict(word.split("=", 1) for word in words if "=" in word)


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_SEARCHED) is None]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as listeners:
        found = [listeners.enter_context(socket.socket()) for _ in range(count)]
        for listener in found:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in found]


def _configure(folder: Path, cpus: int) -> None:
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    said = _CONFIGURATION.format(host=host, ports=_free_ports(2), user=getpass.getuser(), folder=folder, cpus=cpus)
    (folder / "slurm.conf").write_text(said)


def _daemons(folder: Path) -> list[list[str]]:
    """The commands, each of which stays in the foreground."""
    munge = ["munged", "--foreground", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"]
    munge += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    return [munge, ["slurmctld", "-D", "-c"], ["slurmd", "-D"]]


def _until(ready: list[str], wanted: str, started: list[subprocess.Popen[bytes]], node: Node) -> None:
    """Ask until the answer holds what is wanted.

    Raises:
        RuntimeError: it does not in time, or a daemon has ended.
    """
    deadline = time.monotonic() + _SECONDS
    said = ""
    while time.monotonic() < deadline and all(daemon.poll() is None for daemon in started):
        done = subprocess.run(ready, capture_output=True, text=True, env=node.environment)
        said = done.stdout + done.stderr
        if done.returncode == 0 and wanted in said:
            return
        time.sleep(0.2)
    logs = "".join(f"\n{path}:\n{path.read_text()[-2000:]}" for path in node.folder.glob("*.log"))
    raise RuntimeError(f"Slurm does not come up: `{' '.join(ready)}` says {said!r}{logs}")


@contextlib.contextmanager
def running() -> Iterator[Node]:
    """Within, this machine is a Slurm cluster.

    Raises:
        RuntimeError: a program is missing, or a daemon does not come up.
    """
    if lacking := missing():
        raise RuntimeError(f"{', '.join(lacking)} not found: apt-get install slurm-wlm munge")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)  # munged asks for it
    environment = {**os.environ, "PATH": _SEARCHED, "SLURM_CONF": str(folder / "slurm.conf")}
    cpus = int(os.environ.get("REGICOMP_SLURM_CPUS", "0")) or os.cpu_count() or 1
    node = Node(folder, cpus, environment)
    started: list[subprocess.Popen[bytes]] = []
    checks = (
        (["munge", "-n", f"--socket={folder}/munge.socket"], "MUNGE:"),
        (["scontrol", "ping"], " is UP"),
        (["sinfo", "-h", "-p", "usual", "-o", "%T"], "idle"),
    )
    try:
        _configure(folder, cpus)
        for command, check in zip(_daemons(folder), checks, strict=True):
            with (folder / f"{command[0]}.out.log").open("wb") as output:
                started.append(subprocess.Popen(command, stdout=output, stderr=output, env=environment))
            _until(*check, started, node)
        yield node
    finally:
        if started:
            end_jobs(node)
        for daemon in reversed(started):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            daemon.kill()
            daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def end_jobs(node: Node) -> None:
    """Cancel every job and wait until none is left."""
    cancel = ["scancel", f"--user={getpass.getuser()}"]
    subprocess.run(cancel, capture_output=True, env=node.environment, check=False, timeout=_SECONDS)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done = subprocess.run(["squeue", "-h"], capture_output=True, text=True, env=node.environment)
        if done.returncode or not done.stdout.strip():
            return
        time.sleep(0.5)


def main() -> None:
    """Entry point."""
    with running() as node:
        status = subprocess.run(sys.argv[1:] or [os.environ.get("SHELL", "/bin/sh")], env=node.environment).returncode
    raise SystemExit(status)


if __name__ == "__main__":
    main()
