"""What the tests of CLEVR share."""

import importlib
import pathlib
import warnings

import numpy as np
import pytest


@pytest.fixture(scope="module")
def tfds():
  # Imported once and with its own deprecations let pass, so that the tests
  # below run with every warning an error.
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    importlib.import_module("tensorflow_datasets")
    importlib.import_module("tensorflow_datasets.proto")


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def calibration():
  """The 40 scenes of the original generator, padding 0, and `present`."""
  path = pathlib.Path(__file__).parents[1] / "data/clevr_calibration"
  with np.load(path / "scenes.npz") as file:
    data = dict(file)
  data["present"] = np.arange(10)[None] < data["num_objects"][:, None]
  for name in ("size", "shape", "material", "color"):
    data[name] = np.maximum(data[name], 0)
  return data
