"""Files from strangers: no code runs, no memory or time is given to claims."""

import ast
import io
import json
import os
import pathlib
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

import slot_attention_jax as sa
from slot_attention_jax.data.images import masks, pixels, tfds_files
from slot_attention_jax.evaluation import predictions

PACKAGE = pathlib.Path(sa.__file__).parent
# Modules that make objects of bytes, and calls that run text.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
MODULES |= {"joblib", "pty", "commands"}
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {"system", "popen", "getoutput", "getstatusoutput"}
ATTRIBUTES |= {"execv", "execve", "spawnl", "spawnv"}


def dangers(tree):
  """What runs code or a shell in a parsed file, by line."""
  for node in ast.walk(tree):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name.partition(".")[0] for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names = [(node.module or "").partition(".")[0]]
    for name in MODULES.intersection(names):
      yield node.lineno, name
    if not isinstance(node, ast.Call):
      continue
    function = node.func
    if isinstance(function, ast.Name) and function.id in CALLS:
      yield node.lineno, function.id
    if isinstance(function, ast.Attribute) and function.attr in ATTRIBUTES:
      yield node.lineno, function.attr
    for keyword in node.keywords:
      off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
      if keyword.arg in ("shell", "allow_pickle") and not off:
        yield node.lineno, keyword.arg


# The user's own cache of compiled programs, which are machine code: it must be
# private to be read at all.
CACHE = ("runtime/executables.py", "runtime/kept_programs.py")


def test_no_pickle_no_eval_and_no_shell_anywhere_in_the_package():
  files = sorted(PACKAGE.rglob("*.py"))
  assert len(files) > 100
  found = {
    f"{path.relative_to(PACKAGE)}:{line}": name
    for path in files
    for line, name in dangers(ast.parse(path.read_text(encoding="utf-8")))
  }
  cache = {k: v for k, v in found.items() if k.startswith(CACHE)}
  assert set(cache.values()) == {"pickle"}
  assert len(cache) == len(CACHE)
  assert found == cache


@pytest.mark.parametrize(
  "line",
  [
    "import pickle",
    "from pickle import loads",
    "eval('1')",
    "os.system('ls')",
    "subprocess.run('ls', shell=True)",
    "np.load(f, allow_pickle=True)",
  ],
)
def test_dangers_are_seen(line):
  assert list(dangers(ast.parse(line)))
  safe = "np.load(f, allow_pickle=False); subprocess.run(['ls'], shell=False)"
  assert not list(dangers(ast.parse(safe)))


def npz(path, **members):
  """Writes members of a zip, compressed, as they are."""
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, data in members.items():
      archive.writestr(f"{name}.npy", data)


def header(shape, dtype="<f4"):
  stream = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    stream, {"descr": dtype, "fortran_order": False, "shape": shape}
  )
  return stream.getvalue()


def test_an_npz_bomb_is_refused_before_it_is_read(tmp_path, monkeypatch):
  path = tmp_path / "bomb.npz"
  # 64 MB in 64 kB; of the split there could be a million values.
  npz(path, masks=header((2**24,)) + bytes(2**26))
  assert path.stat().st_size < 2**17

  def reading(*args, **kwargs):
    pytest.fail("it is read")

  monkeypatch.setattr(np.lib.format, "read_array", reading)
  with pytest.raises(ValueError, match=r"bomb\.npz.*shape \[16777216\]"):
    predictions.load_predictions(str(path), 10**6)


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (header((2**40, 2**10)), r"claims the shape \[1099511627776, 1024\]"),
    (header((100,)), r"claims the shape \[100\]"),
    (header((1,), "|O") + b"c__builtin__\neval\n.", "Python objects"),
    (b"\x93NUMPY\x09\x00" + bytes(100), "unknown format"),
    (b"nothing", "cannot be read"),
  ],
)
def test_forged_arrays_are_refused(data, message, tmp_path):
  path = tmp_path / "forged.npz"
  npz(path, masks=data)
  with pytest.raises(ValueError, match=message) as error:
    predictions.load_predictions(str(path))
  assert str(path) in str(error.value)


def test_any_flipped_byte_of_an_npz_is_refused_or_without_effect(tmp_path):
  path = tmp_path / "x.npz"
  segments = np.arange(8, dtype=np.uint8).reshape(1, 2, 4)
  np.savez_compressed(path, segments=segments)
  content = path.read_bytes()
  found = 0
  for i in range(len(content)):
    path.write_bytes(
      content[:i] + bytes([content[i] ^ (1 << i % 8)]) + content[i + 1 :]
    )
    try:
      read = predictions.load_predictions(str(path))["segments"]
    except ValueError as error:
      found += str(path) in str(error)
    else:
      np.testing.assert_array_equal(read, segments)
  assert found > 100


def png(width, height, data=b""):
  """A PNG that claims a size."""

  def chunk(kind, content):
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc

  size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
  parts = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(data))
  return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b"")


@pytest.mark.parametrize("read", [pixels.read_rgb, pixels.read_values])
def test_a_png_bomb_is_refused_before_it_is_decoded(
  read, tmp_path, monkeypatch
):
  path = tmp_path / "bomb.png"
  path.write_bytes(png(12_000, 12_000))
  monkeypatch.setattr(
    "PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("it is decoded")
  )
  with pytest.raises(ValueError, match=r"bomb\.png.* 12000 x 12000 pixels"):
    read(path)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_only_png_and_jpeg_are_decoded(kind, tmp_path):
  path = tmp_path / "a.png"
  Image.fromarray(np.zeros((4, 4), np.uint8)).save(path, format=kind)
  with pytest.raises(ValueError, match=r"an image \(PNG, JPEG\)"):
    pixels.read_rgb(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize(
  "read", [pixels.read_rgb, pixels.read_values, masks.read_ids]
)
def test_a_named_pipe_in_a_folder_is_refused(read, tmp_path):
  os.mkfifo(tmp_path / "a.png")  # Opening it would wait for ever.
  with pytest.raises(ValueError, match=r"a\.png, found a device or pipe"):
    read(tmp_path / "a.png")


@pytest.mark.parametrize(
  ("text", "message"),
  [("{", "damaged"), ("[]", "got list"), ("\udcff", "damaged")],
)
def test_a_damaged_description_of_a_dataset_names_the_file(
  text, message, tmp_path
):
  path = tmp_path / "clevr" / "3.1.0" / "dataset_info.json"
  path.parent.mkdir(parents=True)
  path.write_bytes(text.encode("utf-8", "surrogateescape"))
  with pytest.raises(ValueError, match=message) as error:
    tfds_files.find_directory("clevr", "3.1.0", tmp_path)
  assert str(path) in str(error.value)


class Builder:
  """What is read of a TFDS builder."""

  def __init__(self, data_dir, path):
    split = type("Split", (), {"filepaths": [path]})
    splits = {"train": split}
    self.info = type("Info", (), {"splits": splits, "full_name": "clevr"})
    self.data_dir = str(data_dir)


def test_files_outside_a_dataset_are_not_read(tmp_path):
  (tmp_path / "data").mkdir()
  (tmp_path / "secret").write_text("")
  builder = Builder(tmp_path / "data", tmp_path / "data" / ".." / "secret")
  with pytest.raises(ValueError, match=r"in .*data, got .*secret"):
    tfds_files.find_files(builder, "train")


def test_json_that_is_too_deep_is_damaged(tmp_path):
  from slot_attention_jax.runtime import files

  path = tmp_path / "deep.json"
  path.write_text("[" * 100_000)
  with pytest.raises(ValueError, match=r"deep\.json to be JSON.*Do it\."):
    files.read_json(path, "Do it.")
  path.write_text(json.dumps({"a": 1}))
  assert files.read_json(path, "") == {"a": 1}
