"""Two networks that read digits differently, in about a minute on two cores."""

from configs import default


def get_config():
  """The default config is this experiment."""
  return default.get_config()
