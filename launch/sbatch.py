"""From tasks to what Slurm is given: readable scripts, and the command line that submits them.

Nothing here talks to Slurm. Whatever comes from the user is quoted, so that a name can be anything.
"""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from dissim_jax.launch import progress
from dissim_jax.launch.cluster import DIRECTIVES, Cluster
from dissim_jax.launch.cluster import read_cluster as read_cluster
from dissim_jax.launch.tasks import Task


def processes(task: Task, cluster: Cluster, nodes: int = 1) -> int:
  """Of a training as many as the nodes take; a comparison is one."""
  return nodes * cluster.processes_per_node if task.kind == "run" else 1


def render(tasks: Sequence[Task], root: Path, cluster: Cluster, nodes: int = 1) -> str:
  """The batch script of one task, or of an array of tasks of one kind.

  Args:
    tasks: element i of the array does tasks[i].
    root: folder of the sweep, absolute.
    cluster: from the cluster file.
    nodes: of each training.
  """
  several = processes(tasks[0], cluster, nodes) > 1
  single = len(tasks) == 1
  values = {
    "DIRECTIVES": "\n".join(_directives(tasks[0], cluster, nodes)),
    "HINT": "one run" if single else f"an array of {len(tasks)} runs",
    "ROOT": shlex.quote(str(root)),
    "FOLDER": shlex.quote(os.getcwd()),
    "PYTHON": shlex.quote(cluster.python),
    "JOB": "$SLURM_JOB_ID" if single else "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
    "COMMANDS": _assignments(tasks[0], "") if single else _cases(tasks),
    "SETUP": cluster.setup.strip("\n") or ":",
    "START": _start(tasks[0], cluster, nodes) if several else _ONE_PROCESS,
    "STOP": _STOP_STEP if several else _STOP_PROCESS,
    "TELL": _TELL if several else "",
  }
  return re.sub(r"@(\w+)@", lambda match: values[match[1]], _SCRIPT)


def _directives(task: Task, cluster: Cluster, nodes: int) -> list[str]:
  count = processes(task, cluster, nodes)
  given = {
    "nodes": nodes if task.kind == "run" else 1,
    "ntasks-per-node": cluster.processes_per_node if count > 1 else 1,
    **{key.replace("_", "-"): getattr(cluster, key) for key in DIRECTIVES},
  }
  options = [f"--{name}={value}" for name, value in given.items() if value]
  options += ["--requeue", "--open-mode=append", *cluster.options]
  if cluster.signal_seconds:
    options.append(f"--signal=B:USR1@{cluster.signal_seconds}")
  return [f"#SBATCH {_escaped(option)}" for option in options]


def _escaped(text: str) -> str:
  """For a #SBATCH line, which Slurm reads with rules of its own."""
  if re.fullmatch(r"[\w@%+=:,./;&|*!<>\[\](){}~^-]*", text):
    return text
  inner = text.replace("\\", "\\\\").replace('"', '\\"')
  return f'"{inner}"'


def _assignments(task: Task, indent: str) -> str:
  """Shell lines that set the name and the arguments of a task."""
  lines = [f"name={shlex.quote(task.name)}", "arguments=("]
  return "\n".join(
    indent + line for line in (*lines, *(f"  {shlex.quote(word)}" for word in task.argv), ")")
  )


def _cases(tasks: Sequence[Task]) -> str:
  cases = [f"  {i})\n{_assignments(task, '    ')}\n    ;;" for i, task in enumerate(tasks)]
  return "\n".join(['case "$SLURM_ARRAY_TASK_ID" in', *cases, "esac"])


def _start(task: Task, cluster: Cluster, nodes: int) -> str:
  count = processes(task, cluster, nodes)
  words = [f"--ntasks={count}", f"--ntasks-per-node={cluster.processes_per_node}"]
  if cluster.cpus_per_task:
    words.append(f"--cpus-per-task={cluster.cpus_per_task}")
  return _SEVERAL_PROCESSES.replace("@OPTIONS@", " ".join(words))


def command(script: Path, count: int, root: Path, after: Sequence[str] = ()) -> list[str]:
  """The command line that submits a script.

  Args:
    script: its file; the job is named after it.
    count: tasks in it.
    root: folder of the sweep.
    after: jobs, or elements of arrays (`12_3`), that must have succeeded before.
  """
  words = ["sbatch", "--parsable", "--export=ALL", f"--job-name={script.stem}"]
  words.append(f"--output={_output(root, count)}")
  if count > 1:
    words.append(f"--array=0-{count - 1}")
  if after:
    words += [f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes"]
  return [*words, str(script)]


def _output(root: Path, count: int) -> str:
  """Where Slurm's own messages go; nowhere if it would read the path as a pattern."""
  folder = str(root / "launch" / "slurm")
  if re.search(r"[%\\]", folder):
    return "/dev/null"
  return f"{folder}/{'%j' if count == 1 else '%A_%a'}.out"


def label(tasks: Sequence[Task]) -> str:
  """A short name for a file and a job, of harmless characters only."""
  name = re.sub(r"[^A-Za-z0-9_.]+", "-", tasks[0].name).strip("-.")[:60] or "run"
  return name if len(tasks) == 1 else f"{name}-and-{len(tasks) - 1}-more"


_SCRIPT = f"""#!/usr/bin/env bash
# Slurm starts this script for @HINT@; it was written before it was submitted.
@DIRECTIVES@

job=@JOB@

# USR1 is the warning before the time limit; TERM comes with preemption and cancellation. Both tell
# the process to write a checkpoint and to exit with code {progress.TRY_AGAIN}.
process= signalled= ended= woken=
stop() {{
  signalled=1 woken=1
@STOP@
}}
trap stop USR1
trap 'ended=1; stop' TERM

root=@ROOT@
python=@PYTHON@

# What is run, word for word.
@COMMANDS@

# How it goes is written there.
folder="$root/launch/$name"
mkdir -p "$folder" || exit 1
rm -f "$folder/exit_code"
exec </dev/null >>"$folder/output.log" 2>&1

# Set-up from the cluster file.
@SETUP@

set +e -u
cd @FOLDER@ || {{ echo 1 >"$folder/exit_code"; exit 1; }}
@START@
process=$!
[ -z "$signalled" ] || stop
while :; do  # A signal ends the wait, not the process.
  woken=
  wait "$process"
  code=$?
  [ -n "$woken" ] || break
done
@TELL@
# Told to stop before it could listen.
if [ "$code" -eq 143 ] && [ -n "$signalled" ]; then code={progress.TRY_AGAIN}; fi

# After TERM it is for Slurm to decide: it starts again what it preempted, not what was cancelled.
if [ "$code" -eq {progress.TRY_AGAIN} ] && [ -z "$ended" ] && scontrol requeue "$job"; then
  exit "$code"
fi
echo "$code" >"$folder/exit_code"
exit "$code"
"""

_ONE_PROCESS = '"$python" "${arguments[@]}" &'

_STOP_PROCESS = """  if [ -n "$process" ]; then kill -TERM "$process" 2>/dev/null; fi"""

# What srun itself says is kept apart: the last line of the log is that of the training.
_SEVERAL_PROCESSES = """\
srun @OPTIONS@ --kill-on-bad-exit=0 --wait=0 \\
  bash -c 'exec "$0" "$@" 2>&1' "$python" "${arguments[@]}" 2>"$folder/srun.log" &"""

_STOP_STEP = """\
  # srun would kill the processes. Until there are any, nobody can be told.
  while [ -n "$process" ] && kill -0 "$process" 2>/dev/null; do
    if [ -n "$(squeue --noheader --steps="$job.0")" ]; then
      scancel --signal=TERM "$job.0" && break
    fi
    sleep 1
  done"""

_TELL = """\
if [ "$code" -ne 0 ]; then grep -v 'Exited with exit code' "$folder/srun.log"; fi
"""
