"""Tests of which errors are the user's, and how a program ends on one."""

import errno
import pathlib

import jax
import jax.numpy as jnp
import pytest
from absl import flags

from slot_attention_jax.modules import encoder
from slot_attention_jax.runtime import user_errors


def caught(function):
  try:
    function()
  except Exception as error:
    return error
  raise AssertionError("no error")


def of_the_package():
  encoder.check_lengths(channels=(1,), strides=())


def of_the_package_in_a_trace():
  jax.jit(lambda x: of_the_package() or x)(1.0)


def of_jax():
  # Called by a function of the package: JAX removes its frames.
  encoder.CNNEncoder(channels=(4,), kernel_sizes=(3,), strides=(1,)).apply(
    {}, jnp.zeros((1, 8, 8, 3))
  )


def of_numpy():
  raise ValueError("cannot reshape")


def of_a_number():
  int("x")


@pytest.mark.parametrize(
  ("function", "expected"),
  [
    (of_the_package, True),
    (of_the_package_in_a_trace, True),
    (lambda: pathlib.Path("/no/such/file").read_text(), True),
    (lambda: __import__("no_such_package"), True),
    (lambda: flags.FlagValues()(["main", "--x=1"]), True),
    (of_jax, False),
    (of_numpy, False),
    (of_a_number, False),
    (lambda: {}["key"], False),
    (lambda: __import__("slot_attention_jax.no_such_module"), False),
    (lambda: pathlib.Path("~no_such_user/run").expanduser(), True),
  ],
)
def test_errors_of_the_package_and_of_the_system_are_the_users(
  function, expected
):
  assert user_errors.is_users(caught(function)) is expected


def test_a_bug_passes_with_its_traceback():
  with pytest.raises(KeyError), user_errors.exit_on_user_error([]):
    raise KeyError("bug")


def test_a_user_error_ends_with_its_message_alone(capsys):
  with (
    pytest.raises(SystemExit) as ended,
    user_errors.exit_on_user_error(["--x"]),
  ):
    of_the_package()
  assert ended.value.code == user_errors.EXIT_CODE == 2
  text = capsys.readouterr().err
  assert text.startswith("Error: Expected one entry per layer")
  assert len(text.splitlines()) == 1


def test_a_flag_shows_the_traceback(capsys):
  with (
    pytest.raises(SystemExit),
    user_errors.exit_on_user_error(["--traceback"]),
  ):
    of_the_package()
  text = capsys.readouterr().err
  assert "check_lengths" in text
  assert text.splitlines()[-1].startswith("Error: Expected one entry")


@pytest.mark.parametrize(
  ("error", "expected"),
  [
    (OSError(errno.ENOSPC, "No space left", "/run/x"), "/run/x: No space left"),
    (MemoryError("Unable to allocate 9 TiB"), "Lower train.batch_size"),
    (ModuleNotFoundError("No module named 'x'", name="x"), "Install it"),
    (ValueError("line\n" * 200), "shows the rest"),
  ],
)
def test_messages_say_what_to_do_on_one_screen(error, expected):
  text = user_errors.describe(error)
  assert expected in text
  assert len(text.splitlines()) < 24
