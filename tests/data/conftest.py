"""What the tests of CLEVR share."""

import importlib
import pathlib
import warnings

import jax
import numpy as np
import pytest

from slot_attention_jax.data.procedural.clevr import scene


@pytest.fixture(scope="module")
def tfds():
  # Imported once and with its own deprecations let pass, so that the tests
  # below run with every warning an error.
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    importlib.import_module("tensorflow_datasets")
    importlib.import_module("tensorflow_datasets.proto")


@pytest.fixture(scope="module")
def sharding():
  """Of the batch over four devices."""
  mesh = jax.make_mesh(
    (4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  return jax.NamedSharding(mesh, jax.P("data"))


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def calibration():
  """The 40 scenes of the original generator, padding 0, and `present`."""
  path = pathlib.Path(__file__).parents[1] / "testdata/clevr_calibration"
  with np.load(path / "scenes.npz") as file:
    data = dict(file)
  data["present"] = np.arange(10)[None] < data["num_objects"][:, None]
  for name in ("size", "shape", "material", "color"):
    data[name] = np.maximum(data[name], 0)
  return data


@pytest.fixture(scope="session")
def crowds():
  """64 CLEVR scenes of 1 to 10 objects anywhere, even in each other."""
  rng = np.random.default_rng(5)
  num = 64
  shape = (num, 10)
  size = rng.integers(0, 2, shape, np.int32)
  height = np.float32(scene.RADII)[size]
  ground = rng.uniform(-3, 3, (*shape, 2)).astype(np.float32)

  def near(location):
    jitter = rng.uniform(-0.5, 0.5, (num, 3))
    return (np.array(location) + jitter).astype(np.float32)

  return scene.Scene(
    coords=np.concatenate([ground, height[..., None]], axis=-1),
    rotation=rng.uniform(0, 360, shape).astype(np.float32),
    size=size,
    material=rng.integers(0, 2, shape, np.int32),
    shape=rng.integers(0, 3, shape, np.int32),
    color=rng.integers(0, 8, shape, np.int32),
    texture_seed=np.arange(num * 11, dtype=np.uint32).reshape(num, 11),
    present=np.arange(10)[None] < rng.integers(1, 11, (num, 1)),
    camera=near(scene.CAMERA),
    key_light=near(scene.KEY_LIGHT),
    fill_light=near(scene.FILL_LIGHT),
    back_light=near(scene.BACK_LIGHT),
  )
