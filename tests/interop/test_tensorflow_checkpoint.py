import hashlib
import pathlib
import re
import shutil

import ml_dtypes
import numpy as np
import pytest

from slot_attention_jax.interop import tensorflow_checkpoint
from tests.interop import checkpoint_writer

GOLDEN = pathlib.Path(__file__).parents[1] / "testdata" / "golden"
DATA = "ckpt-1.data-00000-of-00001"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
PREFIX = "network/layer_with_weights-0/"


def small_tensors():
  rng = np.random.default_rng(0)
  return {
    f"object/value{i}{SUFFIX}": rng.normal(size=(i, 3)).astype(np.float32)
    for i in range(5)
  }


@pytest.fixture
def checkpoint(tmp_path):
  checkpoint_writer.write(tmp_path, small_tensors())
  return tmp_path


def flip(path, position, mask=0x10):
  data = bytearray(path.read_bytes())
  data[position] ^= mask
  path.write_bytes(data)


def assert_same(got, expected):
  assert got.dtype == expected.dtype
  assert got.shape == expected.shape
  assert got.tobytes() == expected.tobytes()


# Digests of the names and bytes of the weights that the reference's variables
# held when TensorFlow wrote the checkpoint.
@pytest.mark.parametrize(
  ("name", "count", "digest"),
  [
    (
      "object_discovery",
      890308,
      "e5f66cab17680fa2861203f2a4ebaa5f4a996f941875b484a67db095a806b9c1",
    ),
    (
      "set_prediction",
      380755,
      "df284a3426b7326183310feeebdb4136c668e1c4500984e98f2014b3586d6e33",
    ),
  ],
)
def test_reads_what_tensorflow_wrote(name, count, digest):
  tensors = tensorflow_checkpoint.read_checkpoint(
    GOLDEN / f"official_checkpoint_{name}"
  )
  assert tensors.pop("global_step" + SUFFIX) == np.int64(1234)
  assert tensors.pop("save_counter" + SUFFIX) == np.int64(1)
  weights = {
    key.removeprefix(PREFIX).removesuffix(SUFFIX): value
    for key, value in tensors.items()
  }
  assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
  assert sum(value.size for value in weights.values()) == count
  assert weights["slot_attention/gru/bias"].shape == (2, 192)
  assert all(value.flags.writeable for value in weights.values())
  sha = hashlib.sha256()
  for key, value in sorted(weights.items()):
    sha.update(key.encode() + value.tobytes())
  assert sha.hexdigest() == digest


def test_all_dtypes_and_shapes_are_read_exactly(tmp_path):
  rng = np.random.default_rng(0)
  values = rng.normal(size=(3, 4)) * 50
  dtypes = [
    "f4",
    "f8",
    "f2",
    "i1",
    "i2",
    "i4",
    "i8",
    "u1",
    "u2",
    "u4",
    "u8",
    "?",
    "c8",
    "c16",
  ]
  tensors = {d: np.abs(values).astype(np.dtype(d)) for d in dtypes}
  tensors["bfloat16"] = values.astype(ml_dtypes.bfloat16)
  tensors["scalar"] = np.array(7)
  tensors["empty"] = np.zeros((0, 5), np.float32)
  tensors["large"] = rng.normal(size=(300, 1, 100)).astype(np.float32)
  tensors["ünicode"] = np.arange(2)
  checkpoint_writer.write(tmp_path, tensors)
  got = tensorflow_checkpoint.read_checkpoint(tmp_path)
  assert set(got) == set(tensors)
  for key, value in tensors.items():
    assert_same(got[key], value)


def test_two_data_files(tmp_path):
  table = {b"": bytes([0x08, 2])}  # num_shards: 2
  for number in range(2):
    value = np.full(3, number, np.float32)
    entry, data = checkpoint_writer.entry(value)
    table[b"x%d" % number] = entry + bytes([0x18, number])  # shard_id
    (tmp_path / f"m.data-0000{number}-of-00002").write_bytes(data)
  (tmp_path / "m.index").write_bytes(checkpoint_writer.table(table))
  got = tensorflow_checkpoint.read_checkpoint(tmp_path)
  np.testing.assert_array_equal(got["x0"], np.zeros(3, np.float32))
  np.testing.assert_array_equal(got["x1"], np.ones(3, np.float32))


def test_latest_checkpoint_of_a_directory(tmp_path):
  def read(path):
    return int(tensorflow_checkpoint.read_checkpoint(path)["x"])

  for number in (10, 9, 2):
    name = f"ckpt-{number}"
    checkpoint_writer.write(tmp_path, {"x": np.array(number)}, name)
  assert read(tmp_path) == 2  # The last written, says the file `checkpoint`.
  assert read(tmp_path / "ckpt-9") == 9
  assert read(str(tmp_path / "ckpt-9.index")) == 9
  state = tmp_path / "checkpoint"
  state.write_text('model_checkpoint_path: "/moved/from/ckpt-9"\n')
  assert read(tmp_path) == 9
  state.write_text(f'model_checkpoint_path: "{tmp_path / "ckpt-10"}"\n')
  assert read(tmp_path) == 10
  state.write_text('model_checkpoint_path: "ckpt-11"\n')
  with pytest.raises(FileNotFoundError, match=r"ckpt-11\.index"):
    read(tmp_path)
  state.write_text("nonsense")
  with pytest.raises(ValueError, match="model_checkpoint_path"):
    read(tmp_path)
  state.unlink()
  assert read(tmp_path) == 10


def test_missing_files(checkpoint):
  with pytest.raises(FileNotFoundError, match="nowhere"):
    tensorflow_checkpoint.read_checkpoint(checkpoint / "nowhere")
  (checkpoint / DATA).unlink()
  with pytest.raises(FileNotFoundError, match=re.escape(DATA)):
    tensorflow_checkpoint.read_checkpoint(checkpoint)
  for path in checkpoint.iterdir():
    path.unlink()
  with pytest.raises(FileNotFoundError, match="expected a TensorFlow check"):
    tensorflow_checkpoint.read_checkpoint(checkpoint)


def test_truncated_data(checkpoint):
  data = (checkpoint / DATA).read_bytes()
  (checkpoint / DATA).write_bytes(data[:70])
  with pytest.raises(ValueError, match="data file of 70 bytes"):
    tensorflow_checkpoint.read_checkpoint(checkpoint)


def test_flipped_byte_in_the_data(checkpoint):
  # value0 is empty, value1 takes bytes 0 to 12, value2 bytes 12 to 36.
  flip(checkpoint / DATA, 20)
  with pytest.raises(ValueError, match=r"value2.*Checksum mismatch"):
    tensorflow_checkpoint.read_checkpoint(checkpoint)


def test_flipped_byte_in_the_index(checkpoint):
  flip(checkpoint / "ckpt-1.index", 20)
  with pytest.raises(ValueError, match=r"ckpt-1\.index: Checksum mismatch"):
    tensorflow_checkpoint.read_checkpoint(checkpoint)


def test_truncated_index(checkpoint):
  index = checkpoint / "ckpt-1.index"
  whole = index.read_bytes()
  index.write_bytes(whole[:-1])
  with pytest.raises(ValueError, match="no checkpoint index"):
    tensorflow_checkpoint.read_checkpoint(checkpoint)
  index.write_bytes(whole[-48:])  # The footer alone.
  with pytest.raises(ValueError, match="truncated"):
    tensorflow_checkpoint.read_checkpoint(checkpoint)


def test_files_of_another_format_are_errors(tmp_path):
  (tmp_path / "notes.index").write_text("Not a table." * 20)
  with pytest.raises(ValueError, match="magic number"):
    tensorflow_checkpoint.read_checkpoint(tmp_path)
  (tmp_path / "notes.index").write_bytes(checkpoint_writer.table({b"a": b"b"}))
  with pytest.raises(ValueError, match="without a header"):
    tensorflow_checkpoint.read_checkpoint(tmp_path)


ENTRY, CONTENT = checkpoint_writer.entry(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize(
  ("header", "entry", "message"),
  [
    (b"\x08\x01", ENTRY + b"\x3a\x00", "partitioned"),
    (b"\x08\x01", ENTRY + b"\x08\x63", "dtype.*99"),
    (b"\x08\x01", ENTRY + b"\x08\x02", "float64 of shape .2, 3., got 24"),
    (b"\x08\x01", ENTRY + b"\x18\x05", "shard below 1, got 5"),
    (b"\x08\x01", ENTRY + b"\x28\xff\x01", "truncated"),
    (b"\x08\x01", ENTRY + b"\x0a\x00", "wire type 0 in protobuf field 1"),
    (b"\x08\x01", ENTRY + b"\x12\x09", "within .* bytes"),
    (b"\x08\x01", ENTRY + b"\x0b", "wire type"),
    (b"\x08\x01", ENTRY + b"\xff" * 11, "varint"),
    (b"\x08\x01\x10\x01", ENTRY, "little-endian"),
  ],
  ids=range(10),  # Bytes make unreadable names.
)
def test_unreadable_entries_are_errors(tmp_path, header, entry, message):
  (tmp_path / "m.data-00000-of-00001").write_bytes(CONTENT)
  table = checkpoint_writer.table({b"": header, b"name": entry})
  (tmp_path / "m.index").write_bytes(table)
  with pytest.raises(ValueError, match=message):
    tensorflow_checkpoint.read_checkpoint(tmp_path)


def test_slices_of_a_partitioned_variable_are_named(tmp_path):
  (tmp_path / "m.data-00000-of-00001").write_bytes(CONTENT)
  table = {b"": b"\x08\x01", b"\0part\x80": ENTRY, b"part": ENTRY + b"\x3a\x00"}
  (tmp_path / "m.index").write_bytes(checkpoint_writer.table(table))
  with pytest.raises(ValueError, match=r"b'part'.*partitioned"):
    tensorflow_checkpoint.read_checkpoint(tmp_path)


def test_damage_is_an_error_or_harmless(checkpoint, tmp_path):
  rng = np.random.default_rng(0)
  expected = small_tensors()
  outcomes = {"error": 0, "read": 0}
  for i in range(200):
    broken = tmp_path / "broken"
    shutil.rmtree(broken, ignore_errors=True)
    broken.mkdir()
    for name in (DATA, "ckpt-1.index"):
      shutil.copy(checkpoint / name, broken / name)
    path = broken / (DATA if i % 2 else "ckpt-1.index")
    position = int(rng.integers(path.stat().st_size))
    if i % 4 < 2:
      path.write_bytes(path.read_bytes()[:position])
    else:
      flip(path, position, mask=int(rng.integers(1, 256)))
    try:
      got = tensorflow_checkpoint.read_checkpoint(broken)
    except ValueError:
      outcomes["error"] += 1
    else:
      outcomes["read"] += 1
      assert set(got) == set(expected)
      for key, value in expected.items():
        assert_same(got[key], value)
  # Harmless: what no tensor is read from, such as the metaindex block.
  assert outcomes["error"] > 120, outcomes
