"""All pictures of a run that its page shows under their own titles."""

import matplotlib

from dissim_jax.pages import findings, training
from dissim_jax.render import page
from dissim_jax.render.style import STYLE
from dissim_jax.studies.similarity import heat_maps, report


def sections(results) -> list[page.Section]:
  """A section for every figure that the results allow, in the order of the page.

  The same results give the same bytes with the same matplotlib.
  """
  with matplotlib.rc_context(STYLE):
    drawn = [
      ("training", "Training curves", training.curves(results)),
      (
        "lincka_maps",
        "LinCKA of every pair of members" if results.pairs else "LinCKA between the taps",
        heat_maps.lincka_maps(results),
      ),
      ("diagonal", "LinCKA tap by tap", report.diagonal(results)),
      ("r2", "Least-squares R² tap by tap", report.least_squares(results)),
    ]
  return [
    page.Section(
      title, [page.picture(name, figure, alt(name, results), findings.caption(name, results))]
    )
    for name, title, figure in drawn
    if figure is not None
  ]


def alt(name, results) -> str:
  """What a reader who cannot see the picture is told."""
  members = ", ".join(results.members)
  mark = f"; the regularised {results.tap_label()} is marked" if results.regularised_taps else ""
  return {
    "training": f"Loss, accuracy and similarity per epoch for {', '.join(results.curves)}.",
    "lincka_maps": f"Heat maps from 0 to 1, every tap against every tap, for the pairs of "
    f"{members}{mark}.",
    "diagonal": f"Lines: LinCKA of equal taps for the pairs of {members}{mark}.",
    "r2": f"Lines: how well one member's tap linearly predicts the other's, in both directions, "
    f"for the pairs of {members}{mark}.",
  }[name]
