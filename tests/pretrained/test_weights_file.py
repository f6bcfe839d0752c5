"""Tests of files of weights: read exactly, or refused with the reason."""

import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import slot_attention_jax as sa
from slot_attention_jax.data import types
from slot_attention_jax.pretrained import weights_file

COMPAT = pathlib.Path(__file__).parents[1] / "testdata" / "compat"
SETTINGS = {
  "num_slots": 3,
  "num_iterations": 2,
  "slot_size": 8,
  "mlp_hidden_size": 0,
  "slot_init": "per_slot",
  "epsilon": 1e-8,
  "encoder_channels": [4],
  "encoder_kernel_sizes": [3],
  "encoder_strides": [2],
  "encoder_mlp_sizes": [4],
  "broadcast_size": [4, 4],
  "decoder_channels": [4],
  "decoder_kernel_sizes": [3, 3],
  "decoder_strides": [2, 1],
  "remat_decoder": False,
  "head_hidden_size": 4,
  "position_weight": 1.0,
  "precision": "float32",
  "unroll": 1,
}


def metadata(task="discovery", **changes):
  values = {
    "task": task,
    "model": SETTINGS,
    "resolution": (8, 8),
    "layout": types.CLEVR_LAYOUT if task == "set_prediction" else None,
    "command": "--config=configs/toys.py",
    "data": "toys",
    "synthetic_scenes": True,
    "seed": 3,
    "steps": 20,
    "planned_steps": 20,
    "hardware": "1 x abacus",
    "minutes": 0.5,
    "evaluation": {"num_slots": 3, "num_iterations": 2, "num_examples": 6},
    "metrics": {"toys/test/mse": 0.25, "toys/test/fg_ari": "nan"},
    "date": "2026-11-23",
    "license": "Apache-2.0",
    "versions": {"slot_attention_jax": "0.1.0"},
    "notes": "",
  }
  return weights_file.WeightsMetadata(**(values | changes))


@functools.cache
def shapes_of(model):
  keys = {"params": jax.random.key(0), "slots": jax.random.key(1)}
  images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
  return jax.eval_shape(model.init, keys, images)


def random_params(metadata, seed=0):
  """Parameters of the metadata's model; noise, so that no two are alike."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(np.float32),
    shapes_of(metadata.create_model()),
  )


@pytest.fixture
def saved(tmp_path):
  """A file, and the parameters in it."""
  params = random_params(metadata())
  weights_file.save_weights(tmp_path / "toys.safetensors", params, metadata())
  return tmp_path / "toys.safetensors", params


@pytest.mark.parametrize("task", ["discovery", "set_prediction"])
def test_weights_survive_a_round_trip_bit_for_bit(task, tmp_path):
  made, path = metadata(task), tmp_path / "toys.safetensors"
  params = random_params(made)
  weights_file.save_weights(path, params, made)
  model, loaded = weights_file.load_weights(path)
  assert model == made.create_model()
  assert jax.tree.structure(loaded) == jax.tree.structure(params)
  for x, y in zip(
    jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True
  ):
    assert isinstance(x, jax.Array)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, y)
  assert weights_file.read_weights_metadata(path) == made
  images, rngs = jnp.zeros((2, 8, 8, 3)), {"slots": jax.random.key(0)}
  output = jax.eval_shape(model.apply, loaded, images, rngs=rngs)
  assert output.slots.shape == (2, 3, 8)


def test_safetensors_alone_reads_the_file(saved):
  path, params = saved
  with safetensors.safe_open(path, framework="numpy") as file:
    kernel = file.get_tensor("params/encoder/conv_0/kernel")
    content = json.loads(file.metadata()["slot_attention_jax"])
  encoder = params["params"]["encoder"]
  np.testing.assert_array_equal(kernel, encoder["conv_0"]["kernel"])
  assert content["metrics"]["toys/test/mse"] == 0.25
  assert content["resolution"] == [8, 8]


def test_arrays_of_another_dtype_are_not_saved(tmp_path):
  path = tmp_path / "toys.safetensors"
  half = jax.tree.map(lambda x: x.astype(np.float16), random_params(metadata()))
  with pytest.raises(ValueError, match=r"expected float32.*, got float16"):
    weights_file.save_weights(path, half, metadata())
  assert not path.exists()


def rewrite(path, change):
  """Saves the file again with `change(arrays, content)` made."""
  with safetensors.safe_open(path, framework="numpy") as file:
    content = json.loads(file.metadata()["slot_attention_jax"])
  arrays = safetensors.numpy.load_file(path)
  change(arrays, content)
  header = {"slot_attention_jax": json.dumps(content)}
  safetensors.numpy.save_file(arrays, path, header)


def test_arrays_of_another_model_are_an_error(saved):
  path, _ = saved
  rewrite(path, lambda _, content: content["model"].update(slot_size=16))
  with pytest.raises(ValueError, match=r"expected float32\[") as error:
    weights_file.load_weights(path)
  message = str(error.value)
  assert "params/slot_attention" in message
  assert "got float32[" in message
  assert str(path) in message
  assert "export_weights" in message


def test_a_missing_array_is_named(saved):
  path, _ = saved
  name = "params/encoder/conv_0/kernel"
  rewrite(path, lambda arrays, _: arrays.pop(name))
  with pytest.raises(ValueError, match=f"{name}: expected float32.* got none"):
    weights_file.load_weights(path)


def test_a_flipped_bit_is_an_error(saved):
  path, _ = saved
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"intact .* checksum .* Install"):
    weights_file.load_weights(path)


@pytest.mark.thorough
def test_a_flipped_bit_in_the_header_changes_no_metadata(saved):
  """One bit of every byte, each in turn."""
  path, _ = saved
  content = path.read_bytes()
  expected = weights_file.read_weights_metadata(path)
  header = 8 + int.from_bytes(content[:8], "little")
  found = 0
  for i in range(header):
    path.write_bytes(
      content[:i] + bytes([content[i] ^ (1 << i % 8)]) + content[i + 1 :]
    )
    try:
      assert weights_file.read_weights_metadata(path) == expected
    except ValueError:
      found += 1
  # Others are in the names and places of arrays, which loading checks.
  assert found > 0.3 * header


def test_a_file_without_a_checksum_of_its_metadata_is_read(saved):
  path, _ = saved
  expected = weights_file.read_weights_metadata(path)
  rewrite(path, lambda arrays, content: None)  # As earlier versions wrote it.
  assert weights_file.read_weights_metadata(path) == expected
  weights_file.load_weights(path)


@pytest.mark.parametrize("length", [0, 1, 2**24 + 1, 2**40, 2**64 - 1])
def test_lengths_that_do_not_fit_the_file_are_not_believed(saved, length):
  path, _ = saved
  path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
  with pytest.raises(ValueError, match=rf"header of {length:,} bytes and has"):
    weights_file.load_weights(path)


@pytest.mark.parametrize("begin", [-1, 0, 2**62])
def test_forged_places_of_arrays_are_refused(saved, begin):
  path, _ = saved
  content = path.read_bytes()
  length = int.from_bytes(content[:8], "little")
  header = json.loads(content[8 : 8 + length])
  header["params/encoder/conv_0/kernel"]["data_offsets"] = [begin, 2**63]
  header = json.dumps(header).encode()
  path.write_bytes(
    len(header).to_bytes(8, "little") + header + content[8 + length :]
  )
  with pytest.raises(ValueError, match="Expected an intact safetensors file"):
    weights_file.load_weights(path)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"encoder_channels": [4] * 10**5}, "encoder_channels to be at most"),
    ({"slot_size": 65_000}, "slot_size to be at most 24"),
    ({"num_slots": 10**9}, "num_slots to be an integer from 1"),
    *(
      pytest.param(changes, message, marks=pytest.mark.thorough)
      for changes, message in (
        ({"decoder_strides": [1] * 10**5}, "decoder_strides to be at most"),
        ({"encoder_channels": [60_000]}, "encoder_channels to be at most 24"),
        ({"decoder_kernel_sizes": [3, 200]}, "kernel_sizes to be at most"),
        ({"slot_size": 10**9}, "slot_size to be an integer from 1"),
        ({"num_iterations": 10**9}, "num_iterations to be an integer"),
        ({"broadcast_size": [10**6, 10**6]}, "broadcast_size to be a pair"),
        ({"slot_size": "64"}, "slot_size to be an integer"),
        ({"epsilon": float("nan")}, "epsilon to be a number"),
      )
    ),
  ],
)
def test_a_model_larger_than_its_arrays_is_not_built(
  changes, message, saved, monkeypatch
):
  path, _ = saved

  def build(*unused_arguments, **unused_options):
    raise AssertionError("It was built.")

  monkeypatch.setattr(weights_file.from_config, "create_model", build)
  rewrite(path, lambda _, content: content["model"].update(changes))
  with pytest.raises(ValueError, match=message) as refused:
    weights_file.load_weights(path)
  assert len(str(refused.value)) < 500


@pytest.mark.parametrize("value", [3.0, "soft", [1, 2], {"a": 1}])
def test_a_setting_of_a_later_version_is_refused(value, saved):
  path, _ = saved
  rewrite(path, lambda _, content: content["model"].update(new_option=value))
  message = r"this version knows, got 'new_option': .*later version.*upgrade"
  with pytest.raises(ValueError, match=message):
    weights_file.load_weights(path)


@pytest.mark.parametrize("value", [0, 0.0, "", [], None, False])
def test_a_setting_of_a_later_version_that_is_off_is_left_out(value, saved):
  path, params = saved
  rewrite(path, lambda _, content: content["model"].update(new_option=value))
  model, loaded = weights_file.load_weights(path)
  assert model == metadata().create_model()
  jax.tree.map(np.testing.assert_array_equal, loaded, params)
  read = weights_file.read_weights_metadata(path)
  config = weights_file.with_model_of(sa.load_config("quickstart"), read)
  assert "new_option" not in config.model


def test_images_larger_than_any_are_refused(saved):
  path, _ = saved
  rewrite(path, lambda _, content: content.update(resolution=[10**9, 8]))
  with pytest.raises(ValueError, match="resolution to be a pair"):
    weights_file.load_weights(path)


def test_metadata_nested_too_deep_is_refused(saved):
  path, _ = saved
  arrays = safetensors.numpy.load_file(path)
  deep = "[" * 100_000 + "]" * 100_000
  safetensors.numpy.save_file(arrays, path, {"slot_attention_jax": deep})
  with pytest.raises(ValueError, match="Expected the metadata"):
    weights_file.read_weights_metadata(path)


@pytest.mark.parametrize("left", [0, 7, 100, -10])
def test_a_truncated_file_is_an_error(saved, left):
  path, _ = saved
  path.write_bytes(path.read_bytes()[:left])
  with pytest.raises(ValueError, match=r"Expected an intact .* cannot be read"):
    weights_file.load_weights(path)
  with pytest.raises(ValueError, match="Install the package again"):
    weights_file.read_weights_metadata(path)


def test_a_file_without_metadata_is_an_error(saved):
  path, params = saved
  kernel = params["params"]["encoder"]["conv_0"]["kernel"]
  safetensors.numpy.save_file({"kernel": kernel}, path, {"format": "np"})
  with pytest.raises(ValueError, match=r"metadata of .* got \['format'\]"):
    weights_file.load_weights(path)


@pytest.mark.parametrize("key", ["task", "layout", "sha256", "resolution"])
def test_missing_metadata_is_named(saved, key):
  path, _ = saved
  rewrite(path, lambda _, content: content.pop(key))
  with pytest.raises(ValueError, match=f"Expected the metadata .*{key}"):
    weights_file.read_weights_metadata(path)


def test_a_missing_file_is_an_error(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"file of weights.*nothing"):
    weights_file.load_weights(tmp_path / "nothing.safetensors")


def test_metadata_is_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    # The assignment that is tested is one that a type checker rejects.
    metadata().seed = 1  # type: ignore[misc]


# Files of earlier versions.


def test_weights_of_an_earlier_version_are_read():
  path = COMPAT / "weights.safetensors"
  with safetensors.safe_open(path, framework="numpy") as file:
    content = json.loads(file.metadata()["slot_attention_jax"])
    kernel = file.get_tensor("params/encoder/conv_0/kernel")
  assert "slot_start" in content["model"]
  assert "slot_init" not in content["model"]
  model, params = sa.load_weights(path)
  assert model.slot_attention.slot_init == content["model"]["slot_start"]
  loaded = params["params"]["encoder"]["conv_0"]["kernel"]
  np.testing.assert_array_equal(loaded, kernel)
  metadata = sa.read_weights_metadata(path)
  assert metadata.command == content["recipe"]
  assert metadata.steps == content["updates"]
  h, w = metadata.resolution
  images, rngs = jnp.zeros((2, h, w, 3)), {"slots": jax.random.key(0)}
  output = jax.eval_shape(model.apply, params, images, rngs=rngs)
  assert output.reconstruction.shape == (2, h, w, 3)


def test_files_keep_the_names_of_their_keys(saved):
  path, _ = saved
  with safetensors.safe_open(path, framework="numpy") as file:
    content = json.loads(file.metadata()["slot_attention_jax"])
  keys = ("recipe", "own_scenes", "updates", "planned_updates")
  assert {key: content[key] for key in keys} == {
    "recipe": "--config=configs/toys.py",
    "own_scenes": True,
    "updates": 20,
    "planned_updates": 20,
  }


def test_earlier_names_are_aliases():
  assert sa.WeightsFacts is sa.WeightsMetadata
  assert sa.pretrained_facts is sa.pretrained_metadata
  assert sa.read_weights_facts is sa.read_weights_metadata
  made = metadata()
  assert (made.recipe, made.own_scenes) == (made.command, True)
  assert (made.updates, made.planned_updates) == (made.steps, 20)
  with pytest.raises(AttributeError, match="no attribute 'step'"):
    _ = made.step


def test_a_config_takes_the_model_of_weights():
  config = sa.load_config("quickstart")
  old = {
    "slot_start" if k == "slot_init" else k: v for k, v in SETTINGS.items()
  }
  made = weights_file.with_model_of(config, metadata(model=old))
  assert made.data.resolution == (8, 8)
  assert (made.model.slot_size, made.model.encoder_strides) == (8, (2,))
  assert made.model.slot_init == "per_slot"
  assert config.model.slot_size == 64


def test_loading_compiles_nothing(tmp_path):
  path = tmp_path / "weights.safetensors"
  model = metadata().create_model()
  rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
  shapes = jax.eval_shape(model.init, rngs, jnp.zeros((1, 8, 8, 3)))
  params = jax.tree.map(lambda x: np.full(x.shape, 0.5, x.dtype), shapes)
  sa.pretrained.weights_file.save_weights(path, params, metadata())
  sa.load_weights(path)  # Keys are made by programs.
  compiled = []

  def listen(event, seconds, **_):
    if event == "/jax/core/compile/backend_compile_duration":
      compiled.append(seconds)

  jax.clear_caches()
  key = jax.random.key(0)
  assert key.shape == ()
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    _, loaded = sa.load_weights(path)
    assert compiled == []
    jnp.asarray(np.full((3, 1, 7), 0.5, np.float32)) + 1  # It does listen.
    assert compiled
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  for leaf in jax.tree.leaves(loaded):
    assert isinstance(leaf, jax.Array)
    np.testing.assert_array_equal(leaf, 0.5)
