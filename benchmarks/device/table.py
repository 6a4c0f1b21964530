"""The measurements as Markdown."""

import importlib.metadata
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.device.check import Check
from benchmarks.device.setting import Setting
from benchmarks.device.timing import Row
from dissim_jax.distributed.environment import environment


def facts(setting: Setting) -> dict:
  """Where and of what the figures are."""
  known = environment()
  device = setting.mesh.devices.flat[0]
  return {
    "device": f"1 of {known['device_count']} {device.device_kind}",
    "platform": device.platform,
    "dtype": setting.dtype,
    "batch": setting.batch,
    "images": "x".join(map(str, setting.image_shape)),
    **{name: known[name] for name in ("python", "jax", "flax")},
    "jaxlib": importlib.metadata.version("jaxlib"),
    "dissim_jax": known["dissim_jax"],
    "commit": commit(),
  }


def commit() -> str:
  """Of the source, with -dirty where files differ from it; "" where there is no git."""
  command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
  try:
    process = subprocess.run(
      command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
  except (OSError, subprocess.CalledProcessError):
    return ""
  return process.stdout.strip()


def heading(values: dict, seconds: float) -> str:
  """The facts as a sentence."""
  listed = ", ".join(f"{name} {value}" for name, value in values.items() if value != "")
  return f"`python -m benchmarks.device`: {listed}; {seconds:.0f} s in all."


def check_table(checks: Sequence[Check]) -> str:
  """A line a comparison."""
  lines = ["| check | error | allowed | |", "|---|---|---|---|"]
  for check in checks:
    error = "" if check.error is None else f"{check.error:.1e}"
    verdict = check.note or ("**wrong**" if check.failed else "right")
    lines.append(f"| {check.name} | {error} | {check.allowed:.0e} | {_cell(verdict)} |")
  return "\n".join(lines)


def speed_table(rows: Sequence[Row]) -> str:
  """A line a case; milliseconds are of one batch."""
  lines = [
    "| part | what | dtype | batch | ms, median | ms, least | images/s | time to the first "
    "| TFLOP/s |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  for row in rows:
    start = f"| {row.part} | {row.name} | {row.dtype} | {row.batch} "
    if row.note or not row.seconds:
      lines.append(f"{start}| {_cell(row.note)} | | | | |")
      continue
    ratio = "" if row.to_baseline is None else f"{row.to_baseline:.2f}"
    speed = _number(row.images_per_second * row.gflop / 1000) if row.gflop else ""
    lines.append(
      f"{start}| {_number(row.milliseconds())} | {_number(row.milliseconds(min))} "
      f"| {_number(row.images_per_second)} | {ratio} | {speed} |"
    )
  return "\n".join(lines)


def _number(value: float) -> str:
  """Three digits, or all before the point."""
  return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _cell(text: str) -> str:
  return text.replace("|", "\\|")
