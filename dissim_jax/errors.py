"""The one exception for what a user can mend."""


class UserError(ValueError):
  """Bad input, told in one sentence: the field, its value, and what is allowed.

  The command line prints the sentence on stderr and exits with code 2, without a traceback.
  """
