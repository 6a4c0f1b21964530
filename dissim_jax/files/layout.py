"""Names of the files and folders of a run, and of what holds several."""

LOCK = ".lock"  # held by the process that works in a run's folder
CONFIG = "config.json"
MEMBER = "member.json"  # in the folder of a finished member
WEIGHTS = "weights"  # folder, of orbax
TENSORS = "weights.safetensors"  # the same, in a file that any program can read
CHECKPOINTS = "checkpoints"
CHECKSUMS = "checkpoints.json"  # beside that folder
TENSORBOARD = "tensorboard"
LOG = "metrics.jsonl"  # a line for each epoch, in the folder of a training
EVALUATION = "evaluation"  # what is measured of all members
STITCHING = "stitching"
REPORT = "report"
REPORT_PAGE = "report/report.html"  # written last
COMPARISON = "comparison"
COMPARISON_PAGE = "comparison.html"  # written last
SWEEP = "sweep.json"  # in the folder of all runs of a sweep
