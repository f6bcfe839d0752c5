"""Tests of what a run says about its code, also without an installation."""

import importlib.metadata
import pathlib
import subprocess

import pytest

from slot_attention_jax.runtime import provenance


def make_checkout(path):
  """A repository with a copy of the module, in the place that it has."""
  file = path / "slot_attention_jax" / "runtime" / "provenance.py"
  file.parent.mkdir(parents=True)
  file.write_text("x = 1\n")

  def git(*arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(
      ["git", "-C", str(path), *identity, *arguments],
      check=True,
      capture_output=True,
      text=True,
    ).stdout.strip()

  git("init", "-q")
  git("add", ".")
  git("commit", "-q", "-m", "first")
  return file, git("rev-parse", "--short", "HEAD")


def hide_the_installation(monkeypatch):
  version = importlib.metadata.version

  def find(name):
    if name == "slot_attention_jax":
      raise importlib.metadata.PackageNotFoundError(name)
    return version(name)

  monkeypatch.setattr(importlib.metadata, "version", find)


def test_a_checkout_without_an_installation_has_its_commit(
  tmp_path, monkeypatch
):
  file, commit = make_checkout(tmp_path)
  hide_the_installation(monkeypatch)
  monkeypatch.setattr(provenance, "__file__", str(file))
  assert provenance.code_version().endswith(f", commit {commit}")
  file.write_text("x = 2\n")
  assert provenance.code_version().endswith(f", commit {commit} with changes")
  versions = provenance.package_versions()
  assert "slot_attention_jax" not in versions
  assert versions["jax"] == importlib.metadata.version("jax")


def test_without_a_repository_there_is_no_commit(tmp_path, monkeypatch):
  monkeypatch.setattr(
    provenance, "__file__", str(tmp_path / "a" / "b" / "provenance.py")
  )
  assert "commit" not in provenance.code_version()


def test_this_checkout_has_its_commit():
  root = pathlib.Path(provenance.__file__).parents[2]
  command = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
  result = subprocess.run(command, capture_output=True, text=True, check=False)
  if result.returncode:
    pytest.skip("These files are no checkout.")
  assert f"commit {result.stdout.strip()}" in provenance.code_version()
