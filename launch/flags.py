"""The flags that all engines share."""

from typing import Any

from absl import flags

from dissim_jax import command_line, texts

flags.disclaim_key_flags()  # They are the engine's: `--help` shows them.


def define(values: flags.FlagValues = flags.FLAGS) -> dict[str, flags.FlagHolder]:
  """Defines the shared flags; by name."""
  plugins = command_line.define_plugins(values)
  where: dict[str, Any] = {"flag_values": values}
  holders = (
    flags.DEFINE_string("sweep", None, "File that yields the runs, in configs/sweeps/.", **where),
    flags.DEFINE_string(
      "root", None, "Folder of all runs. Default: runs/<name of the sweep>.", **where
    ),
    flags.DEFINE_multi_string(
      "only", [], "Only runs whose name matches, such as seed_0/*, and the runs they need.", **where
    ),
    flags.DEFINE_multi_string(
      "override",
      [],
      "FIELD=VALUE of the config of every run, such as train.epochs=2. " + texts.SEVERAL,
      **where,
    ),
    flags.DEFINE_bool("dry_run", False, "Print what would be done, and do nothing.", **where),
    command_line.define_number(
      "images_per_second",
      None,
      "Measured training speed of one model on one GPU: a dry run tells the GPU hours.",
      values,
    ),
  )
  return {holder.name: holder for holder in (plugins, *holders)}
