"""How much is compiled, and where compiled programs are kept between runs."""

import os
from typing import Any

import jax

DIRECTORY = os.path.join("~", ".cache", "slot_attention_jax", "xla")
"""The default; `~` is the home directory."""
_LEAST_SECONDS = "jax_persistent_cache_min_compile_time_secs"
# LLVM's optimizations, and fusions lowered by MLIR rather than directly, are
# most of the time of a compilation on CPU.
_NO_EMITTERS = {"xla_cpu_use_fusion_emitters": False}
# Pixels of an image from which a step takes longer without LLVM's simplest
# optimizations than they take: twice as many as of Multi-dSprites and its six
# slots, half as many as of CLEVR6.
_MANY_PIXELS = 60_000


def keep_programs(directory: str = DIRECTORY) -> None:
  """Keeps compiled programs in a directory; "": keeps none.

  Those that took a tenth of a second or longer, unless
  `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` is set.
  """
  if not directory:
    return
  jax.config.update("jax_compilation_cache_dir", os.path.expanduser(directory))
  if _LEAST_SECONDS.upper() not in os.environ:
    # JAX's second leaves out most of what compiles quickly.
    jax.config.update(_LEAST_SECONDS, 0.1)


def quick_options(quick: bool = True, pixels: int = 0) -> dict[str, Any] | None:
  """The `compiler_options` of a program that runs once or a few times.

  On CPU it compiles in less time and runs slower; results differ by rounding.
  Elsewhere it is compiled as always.

  Args:
    quick: whether the program is to be compiled so.
    pixels: of a program that runs a model, those that it works on for each
      image, `tasks.Task.pixels`: with many, running it twice takes longer than
      compiling it, and LLVM does its simplest optimizations.

  Returns:
    Options for `jax.jit`; None: XLA's own.

  Example:
    >>> import jax
    >>> from slot_attention_jax.runtime import compilation
    >>> options = compilation.quick_options()
    >>> double = jax.jit(lambda x: 2 * x, compiler_options=options)
    >>> int(double(3))
    6
  """
  if not quick or jax.default_backend() != "cpu":
    return None
  level = "1" if pixels >= _MANY_PIXELS else "0"
  return {"xla_backend_optimization_level": level, **_NO_EMITTERS}
