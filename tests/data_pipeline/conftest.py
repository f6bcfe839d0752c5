"""What the tests of CLEVR share."""

import importlib
import warnings

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
