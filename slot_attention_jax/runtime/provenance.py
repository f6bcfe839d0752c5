"""Where numbers come from: code, package versions, hardware."""

import contextlib
import importlib.metadata
import os
import pathlib
import subprocess

import jax

_PACKAGES = ("slot_attention_jax", "jax", "flax", "optax", "numpy")


def package_versions() -> dict[str, str]:
  """Versions of this package and what it computes with, where installed."""
  versions = {}
  for name in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[name] = importlib.metadata.version(name)
  return versions


def hardware() -> str:
  """All devices of the run in words, as `"1 x NVIDIA H100 80GB HBM3"`."""
  return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


def code_version() -> str:
  """Version of the package and, where it is a checkout, its commit."""
  version = package_versions().get("slot_attention_jax", "not installed")
  root = pathlib.Path(__file__).resolve().parents[2]
  if not (root / ".git").exists():
    return version

  def git(*arguments: str) -> str:
    command = ["git", "-C", os.fspath(root), *arguments]
    return subprocess.run(
      command, check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()

  try:
    changed = git("status", "--porcelain", "--untracked-files=no")
    return f"{version}, commit {git('rev-parse', '--short', 'HEAD')}" + (
      " with changes" if changed else ""
    )
  except (OSError, subprocess.SubprocessError):
    return version
