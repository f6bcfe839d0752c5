"""Which errors are the user's, and how a program ends on one."""

import contextlib
import dis
import errno
import os
import pathlib
import sys
import traceback
from collections.abc import Iterator, Sequence

import jax
from absl import flags

EXIT_CODE = 2
"""What a program returns to the shell on a user's error."""
FLAG = "--traceback"
"""Shows the traceback of a user's error, too."""

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
_SPACE = " Free some space, then run the same command again."
REMEDIES = {
  errno.ENOSPC: _SPACE,
  errno.EDQUOT: _SPACE,
  errno.EFBIG: _SPACE,
  errno.ENOENT: " Check the path.",
  errno.EIO: " Check the disk or, of a bucket, the network.",
  errno.EROFS: " Choose a directory on a disk that can be written to.",
  errno.EACCES: " Choose a directory that this user may use.",
  errno.EPERM: " Choose a directory that this user may use.",
}
"""What to do about errors of the operating system, by `errno`."""
# One screen.
_MOST_LINES = 20
_MOST_CHARACTERS = 3000


@contextlib.contextmanager
def exit_on_user_error(argv: Sequence[str] | None = None) -> Iterator[None]:
  """Ends the program with a message, without a traceback, on a user's error.

  Args:
    argv: arguments of the program, among which `FLAG` is looked for; None:
      those of the process.

  Raises:
    SystemExit: with `EXIT_CODE`, in place of an error that `is_users`; others
      pass.

  Example:
    >>> import pathlib
    >>> from slot_attention_jax.runtime import user_errors
    >>> with user_errors.exit_on_user_error():
    ...   pathlib.Path("/no/such/file").read_text()
    Traceback (most recent call last):
      ...
    SystemExit: 2
  """
  try:
    yield
  except Exception as error:
    if not is_users(error):
      raise
    if FLAG in (sys.argv if argv is None else argv):
      traceback.print_exception(error)
    sys.stdout.flush()
    print(f"Error: {describe(error)}", file=sys.stderr, flush=True)
    raise SystemExit(EXIT_CODE) from None


def is_users(error: BaseException) -> bool:
  """Whether an error is the user's to mend, and no bug of the program.

  These are a `ValueError` or `FloatingPointError` that a `raise` statement of
  this package raised, wrong flags, what the operating system refuses, memory
  that does not suffice, a device or a package that is not there.

  Args:
    error: any exception that was raised.

  Returns:
    Whether its message says all that the user needs.
  """
  if isinstance(error, flags.Error | OSError | MemoryError):
    return True
  if isinstance(error, ModuleNotFoundError):
    return not (error.name or "").startswith(_PACKAGE.name)
  if isinstance(error, jax.errors.JaxRuntimeError):
    return "RESOURCE_EXHAUSTED" in str(error)
  if isinstance(error, RuntimeError):
    # The latter is about "~name", of a user that does not exist.
    return str(error).startswith(
      ("Unable to initialize backend", "Could not determine home directory")
    )
  if isinstance(error, ValueError | FloatingPointError):
    return _raised_in_package(error)
  return False


def describe(error: BaseException) -> str:
  """The message of an error that `is_users`, of one screen at most."""
  message = str(error).strip()
  if isinstance(error, OSError) and error.strerror:
    message = error.strerror
    if error.filename:
      message = f"Cannot read or write {error.filename}: {message}."
    # Otherwise the text is a message of this package.
    if error.filename or message == os.strerror(error.errno or 0):
      message += REMEDIES.get(error.errno or 0, "")
  elif isinstance(error, ModuleNotFoundError):
    message = f"{message}. Install it, see the README."
  elif isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in message:
    message = (
      f"Expected enough memory, got: {message.partition(chr(10))[0][:300]} "
      "Lower train.batch_size, eval.batch_size, data.resolution or "
      "data.scenes.num_train."
    )
  lines = message[:_MOST_CHARACTERS].splitlines()
  if len(lines) > _MOST_LINES:
    lines = [*lines[:_MOST_LINES], f"... ({FLAG} shows the rest)"]
  return "\n".join(lines)


def _raised_in_package(error: BaseException) -> bool:
  """Whether a `raise` statement in a file of this package raised an error.

  JAX removes its own frames from tracebacks: the last frame may be of this
  package although JAX raised the error. Then its last instruction is a call.
  """
  trace = error.__traceback__
  if trace is None:
    return False
  while trace.tb_next:
    trace = trace.tb_next
  code = trace.tb_frame.f_code
  instruction = dis.opname[code.co_code[trace.tb_lasti]]
  return instruction == "RAISE_VARARGS" and pathlib.Path(
    code.co_filename
  ).resolve().is_relative_to(_PACKAGE)
