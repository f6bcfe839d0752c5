import os
import stat

import pytest

from slot_attention_jax.runtime import program_files


def test_data_comes_back(tmp_path):
  path = tmp_path / "a.exe"
  program_files.write(path, b"program")
  assert program_files.read(path) == b"program"


@pytest.mark.parametrize(
  "damage",
  [
    lambda data: data[:-1],
    lambda data: data + b"x",
    lambda data: data[:-1] + b"x",
    lambda data: b"x" + data[1:],
    lambda data: b"",
    lambda data: data[:30],
  ],
)
def test_damage_is_an_error(tmp_path, damage):
  path = tmp_path / "a.exe"
  program_files.write(path, b"program")
  path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(ValueError, match="damaged"):
    program_files.read(path)
  assert not path.exists()


def test_the_directory_is_its_owners_alone(tmp_path):
  directory = tmp_path / "cache" / "programs"
  program_files.make_private(directory)
  program_files.make_private(directory)
  assert stat.S_IMODE(directory.stat().st_mode) == 0o700
  directory.chmod(0o777)
  with pytest.raises(PermissionError, match="by others"):
    program_files.make_private(directory)


def test_a_directory_of_another_user_is_an_error(tmp_path, monkeypatch):
  monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
  with pytest.raises(PermissionError, match="another user"):
    program_files.make_private(tmp_path)


def test_what_was_used_longest_ago_goes_first(tmp_path):
  for age, name in enumerate("abcd"):
    program_files.write(tmp_path / name, bytes(1000))
    os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
  program_files.read(tmp_path / "d")
  program_files.remove_oldest(tmp_path, 3500)
  assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "d"]
  program_files.remove_oldest(tmp_path)
  assert len(list(tmp_path.iterdir())) == 3
