"""A Slurm of one node for tests: real, private, in a temporary folder, gone afterwards.

It needs the programs of Slurm and the right to run as root, and no network but the loopback.
"""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
# A job that is to run again waits for as long as its credential is good, 120 seconds by default.
AuthInfo=cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait={kill_wait}
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=8000 Gres=gpu:2 \
State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 \
PreemptMode=REQUEUE
PartitionName=grace Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE \
GraceTime=20
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing() -> list[str]:
  """Programs that are not installed."""
  return [name for name in PROGRAMS if not shutil.which(name, path=_path())]


def _path() -> str:
  return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class SlurmCluster:
  """A controller and a node with 4 CPUs and 2 pretended GPUs; a context.

  Partitions: `low`, whose jobs those of `high` push aside at once; `grace`, where they are warned
  20 seconds before.
  """

  def __init__(self, folder: Path, kill_wait: int = 20):
    self.folder = folder
    self.conf = folder / "slurm.conf"
    self._kill_wait = kill_wait
    self._processes: list[subprocess.Popen] = []

  def __enter__(self) -> "SlurmCluster":
    for name in ("state", "spool"):
      (self.folder / name).mkdir(parents=True)
    host = socket.gethostname().split(".")[0]
    controller_port, node_port = _free_ports(2)
    self.conf.write_text(
      _CONF.format(
        folder=self.folder,
        host=host,
        controller_port=controller_port,
        node_port=node_port,
        kill_wait=self._kill_wait,
      )
    )
    for name in ("gpu0", "gpu1"):
      (self.folder / name).touch()
    (self.folder / "gres.conf").write_text(
      f"NodeName=localhost Name=gpu File={self.folder}/gpu[0-1]\n"
    )
    try:
      self._start("slurmctld", "-D")
      self._start("slurmd", "-D", "-N", "localhost")
      self._wait_until_idle()
    except BaseException:
      self.__exit__()
      raise
    return self

  def __exit__(self, *exception) -> None:
    self._end_jobs()
    for process in reversed(self._processes):
      process.terminate()
    for process in self._processes:
      try:
        process.wait(5)
      except subprocess.TimeoutExpired:
        process.kill()

  def _end_jobs(self, patience: float = 60.0) -> None:
    """A node that is stopped leaves what runs on it behind."""
    environment, deadline = self.environment(), time.monotonic() + patience
    while time.monotonic() < deadline:
      for how in (["--signal=KILL", "--full"], []):  # What runs ends at once, the rest never runs.
        subprocess.run(["scancel", "--user=root", *how], env=environment, capture_output=True)
      told = subprocess.run(["squeue", "-h"], env=environment, capture_output=True, text=True)
      if not told.stdout.strip():
        return
      time.sleep(0.2)

  def environment(self) -> dict[str, str]:
    """For programs that are to find this Slurm."""
    return {**os.environ, "SLURM_CONF": str(self.conf), "PATH": _path()}

  def call(self, *command: str) -> str:
    """Output of one of Slurm's programs."""
    return subprocess.run(
      command, env=self.environment(), capture_output=True, text=True, check=True
    ).stdout

  def _start(self, name: str, *arguments: str) -> None:
    program = shutil.which(name, path=_path())
    with (self.folder / f"{name}.out").open("wb") as log:
      self._processes.append(
        subprocess.Popen(
          [program, *arguments, "-f", str(self.conf)],
          stdout=log,
          stderr=log,
          stdin=subprocess.DEVNULL,
          start_new_session=True,
        )
      )

  def _wait_until_idle(self, patience: float = 600.0) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
      if any(process.poll() is not None for process in self._processes):
        break
      told = subprocess.run(
        ["sinfo", "-h", "-o", "%T"], env=self.environment(), capture_output=True, text=True
      )
      if told.stdout.split()[:1] == ["idle"]:
        return
      time.sleep(0.1)
    logs = [path.read_text()[-2000:] for path in sorted(self.folder.glob("slurm*.*"))]
    raise RuntimeError("Slurm did not start:\n" + "\n".join(logs))


def _free_ports(count: int) -> list[int]:
  sockets = [socket.socket() for _ in range(count)]
  try:
    for each in sockets:
      each.bind(("127.0.0.1", 0))
    return [each.getsockname()[1] for each in sockets]
  finally:
    for each in sockets:
      each.close()
