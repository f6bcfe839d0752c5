"""Tests of the checksums."""

import builtins

import google_crc32c
import pytest

from slot_attention_jax.runtime import checksums


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 3])
def test_crc32c_without_the_package(data, monkeypatch):
  assert checksums.crc32c_in_python(data) == google_crc32c.value(data)
  expected = checksums.masked_crc32c(data)
  find = builtins.__import__

  def absent(name, *args, **kwargs):
    if name == "google_crc32c":
      raise ImportError(name)
    return find(name, *args, **kwargs)

  monkeypatch.setattr(builtins, "__import__", absent)
  monkeypatch.setattr(checksums, "crc32c_in_python", lambda data: 0)
  assert checksums.masked_crc32c(data) == 0xA282EAD8
  monkeypatch.undo()
  assert checksums.masked_crc32c(data) == expected
