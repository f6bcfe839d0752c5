"""Where compiled programs are kept between runs."""

import os

import jax

DIRECTORY = os.path.join("~", ".cache", "slot_attention_jax", "xla")
"""The default; `~` is the home directory."""


def keep_programs(directory: str = DIRECTORY) -> None:
  """Keeps compiled programs in a directory; "": keeps none."""
  if directory:
    jax.config.update(
      "jax_compilation_cache_dir", os.path.expanduser(directory)
    )
