"""Joins the lower half of one trained member to the upper half of another and tests the hybrid.

  python -m dissim_jax.stitch --source=runs/a/member_0 --target=runs/a/member_1 --tap=3
  python -m dissim_jax.stitch --source=… --target=… --tap=all --methods=least_squares,task_loss

The stitch is fitted on the training images of the target's run and measured on its test images.
How it is trained (epochs, learning rate, …) is the `stitch` block of the target's run, or of
--config=FILE, whose fields can be set: --config=configs/stitch_digits.py --config.stitch.epochs=60
"""

from absl import app, flags

from dissim_jax import command_line
from dissim_jax.registry.stitching import METHODS

if __name__ == "__main__":
  command_line.define_plugins()
  _SOURCE = flags.DEFINE_string("source", None, "Member folder: represents the images.")
  _TARGET = flags.DEFINE_string("target", None, "Member folder: classifies the representations.")
  _TAP = flags.DEFINE_string("tap", "all", "Where to join: a tap, several as 2,3, or all.")
  _TARGET_TAP = command_line.define_whole("target_tap", None, "The target's tap, if it is another.")
  _METHODS = flags.DEFINE_string(
    "methods",
    METHODS,
    "Of identity, least_squares, linear, orthogonal, reduced_rank, sparse, task_loss.",
  )
  _RANK = command_line.define_whole("rank", 0, "Rank of reduced_rank and task_loss; 0 = full.")
  _L1 = command_line.define_number(
    "l1", 0.0, "sparse: share of what makes all zero; task_loss: weight of the sum of |entries|."
  )
  _RESIZE = flags.DEFINE_boolean("resize", False, "Resize a source tap of another size.")
  _OUT = flags.DEFINE_string("out", None, "Folder for stitch.json and stitch.npz.")
  _CONFIG = command_line.define_config(help_text="Whose `stitch` block counts: a file, or a run.")

  def main(argv: list[str]) -> None:
    """Stitches the members that the flags name."""
    command_line.no_arguments(argv)
    command_line.require(_SOURCE, _TARGET)
    with command_line.computing("stitch"):
      from dissim_jax.studies.stitching import one_pair

      one_pair.run(
        _SOURCE.value,
        _TARGET.value,
        taps=_TAP.value,
        target_tap=_TARGET_TAP.value,
        methods=_METHODS.value,
        rank=_RANK.value,
        l1=_L1.value,
        resize=_RESIZE.value,
        config=_CONFIG.value,
        out=_OUT.value,
      )

  app.run(command_line.guarded(main), flags_parser=command_line.parse)
