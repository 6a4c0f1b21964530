"""The experiments of stitching by name, in the order of the page, and where a stitch starts."""

from dissim_jax.registry.entry import Entry

# `function` takes a `StitchPair` to `(results, arrays)`.
EXPERIMENTS: dict[str, Entry] = {
  name: Entry(name=name, label=label, code=f"studies.stitching.experiments:{name}")
  for name, label in (
    ("matching", "Matching at every tap"),
    ("width", "Networks of different width"),
    ("indices", "Similarity while a stitch is trained"),
    ("low_cka", "High accuracy at low CKA"),
    ("initialisation", "Does the start matter?"),
    ("connectivity", "Linear mode connectivity of stitches"),
    ("sparsity", "Sparse stitches"),
    ("low_rank", "Stitches of low rank"),
  )
}

METHODS = "least_squares,orthogonal,task_loss"  # of the command, where none are named
STARTS = ("least_squares", "random", "identity")
LABELS = ("soft", "hard")
