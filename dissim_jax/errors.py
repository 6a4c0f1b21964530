"""The exceptions that end a program with a sentence instead of a traceback."""

TRY_AGAIN = 75  # exit code EX_TEMPFAIL: the same command, given again, goes on


class UserError(ValueError):
  """Bad input, told in one sentence: the field, its value, and what is allowed.

  The command line prints the sentence on stderr and exits with code 2, without a traceback.
  """


class BusyError(UserError):
  """Another process works in the folder; the command line exits with code 75."""


class Stopped(BaseException):  # noqa: N818 (not an error)
  """The process was told to stop and can go on later; the command line exits with code 75.

  No `Exception`, as nothing but the command line is to catch it.
  """
