"""Tests of weights on the Hub, against a stand-in on this machine."""

import dataclasses
import importlib.util
import pathlib
import sys

import jax
import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax import pretrained
from slot_attention_jax.pretrained import hub, model_card
from slot_attention_jax.runtime import user_errors
from tests.pretrained import hub_server

needs_hub = pytest.mark.skipif(
  not importlib.util.find_spec("huggingface_hub"),
  reason="needs huggingface_hub",
)
WEIGHTS = pathlib.Path(pretrained.__file__).parent / "quickstart.safetensors"
NAME = "hf://me/slots"


@pytest.fixture
def server(monkeypatch, tmp_path):
  """The stand-in, an empty cache and a token."""
  from huggingface_hub import constants

  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
  monkeypatch.setenv("HF_TOKEN", "hf_standin")
  with hub_server.running() as server:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server


def check_equal(params):
  _, expected = sa.load_pretrained("quickstart")
  jax.tree.map(np.testing.assert_array_equal, params, expected)


@needs_hub
def test_weights_come_back_from_the_hub_and_from_the_cache(server, monkeypatch):
  assert sa.push_to_hub(WEIGHTS, "me/slots") == NAME
  files = server.repositories["me/slots"]
  assert files["model.safetensors"] == WEIGHTS.read_bytes()
  model, params = sa.load_pretrained(NAME)
  assert model.num_slots == 4
  check_equal(params)
  assert sa.pretrained_metadata(f"{NAME}@main").data == "tetrominoes_scenes"
  downloads = [path for method, path in server.requests if method == "GET"]
  assert len(downloads) == 1  # The second time it asks whether it is the same.
  commit = server.commit("me/slots")
  # Another version is downloaded, the old one is there by its commit.
  files["model.safetensors"] = files["model.safetensors"] + b" "
  with pytest.raises(ValueError, match="cannot be read"):
    sa.load_pretrained(NAME)
  check_equal(sa.load_pretrained(f"{NAME}@{commit}")[1])
  # Without a network, what is in the cache: of a branch, the newest.
  monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
  monkeypatch.setattr("time.sleep", lambda seconds: None)  # Between attempts.
  check_equal(sa.load_pretrained(f"{NAME}@{commit}")[1])
  with pytest.raises(ValueError, match="cannot be read"):
    sa.load_pretrained(NAME)
  with pytest.raises(FileNotFoundError, match="cannot be reached"):
    sa.load_pretrained("hf://me/other")


@needs_hub
def test_offline_mode_asks_nobody(server, monkeypatch):
  from huggingface_hub import constants

  sa.push_to_hub(WEIGHTS, NAME, private=True)
  sa.load_pretrained(NAME)
  server.requests.clear()
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  check_equal(sa.load_pretrained(NAME)[1])
  with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE is set"):
    sa.load_pretrained("hf://me/other")
  assert not server.requests


@needs_hub
def test_a_second_upload_replaces_the_first(server, tmp_path):
  sa.push_to_hub(WEIGHTS, "me/slots")
  other = WEIGHTS.with_name("clevr6_small.safetensors")
  sa.push_to_hub(other, "me/slots")
  assert sa.pretrained_metadata(NAME).resolution == (64, 64)
  damaged = tmp_path / "damaged.safetensors"
  content = bytearray(WEIGHTS.read_bytes())
  content[-1] ^= 1
  damaged.write_bytes(content)
  with pytest.raises(ValueError, match="checksum"):
    sa.push_to_hub(damaged, "me/slots")
  assert sa.pretrained_metadata(NAME).resolution == (64, 64)


@needs_hub
def test_a_damaged_download_is_an_error(server):
  content = bytearray(WEIGHTS.read_bytes())
  content[-1] ^= 1
  server.repositories["me/slots"] = {"model.safetensors": bytes(content)}
  with pytest.raises(ValueError, match="checksum of the arrays"):
    sa.load_pretrained(NAME)


@needs_hub
@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("hf://me/none", "none of this name, or it is private"),
    ("hf://me/slots@none", "branch, tag or commit of hf://me/slots"),
    ("hf://me/slots", r"model\.safetensors in hf://me/slots"),
  ],
)
def test_what_the_hub_does_not_have_is_the_user_s_error(name, message, server):
  server.repositories["me/slots"] = {"README.md": b""}
  with pytest.raises(FileNotFoundError, match=message) as caught:
    sa.load_pretrained(name)
  assert user_errors.is_users(caught.value)
  assert user_errors.describe(caught.value) == str(caught.value)


@needs_hub
def test_uploads_without_a_token_or_a_network_are_errors(server, monkeypatch):
  from huggingface_hub import constants

  monkeypatch.delenv("HF_TOKEN")
  monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/no/such/file")
  with pytest.raises(OSError, match="hf auth login"):
    sa.push_to_hub(WEIGHTS, "me/slots")
  assert not server.repositories
  monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
  with pytest.raises(OSError, match="cannot be reached"):
    sa.push_to_hub(WEIGHTS, "me/slots")


@pytest.mark.parametrize(
  "name",
  ["hf://", "hf://me", "hf://me/a/b", "hf://../x", "hf://me/.", "hf:// "],
)
def test_names_that_are_none(name):
  with pytest.raises(ValueError, match="hf://owner/name"):
    sa.load_pretrained(name)
  with pytest.raises(ValueError, match="hf://owner/name"):
    sa.push_to_hub(WEIGHTS, name)


def test_a_revision_is_not_for_uploads():
  with pytest.raises(ValueError, match="Drop @"):
    sa.push_to_hub(WEIGHTS, "me/slots@main")


def test_without_the_package_the_error_names_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)
  for call in (
    lambda: sa.load_pretrained(NAME),
    lambda: sa.push_to_hub(WEIGHTS, NAME),
  ):
    with pytest.raises(
      ModuleNotFoundError, match=r"slot_attention_jax\[hub\]"
    ) as caught:
      call()
    assert user_errors.is_users(caught.value)


@pytest.mark.parametrize("name", ["quickstart", "clevr_set_small"])
def test_the_card_has_a_front_matter_that_the_hub_reads(name):
  yaml = pytest.importorskip("yaml")
  metadata = sa.pretrained_metadata(name)
  metadata = dataclasses.replace(
    metadata, metrics={**metadata.metrics, "a/test/ap": "inf"}
  )
  card = model_card.hub_card("me/slots", metadata)
  _, matter, text = card.split("---\n", 2)
  matter = yaml.safe_load(matter)
  assert matter["license"] == "apache-2.0"
  assert "slot-attention" in matter["tags"]
  (index,) = matter["model-index"]
  (result,) = index["results"]
  assert result["dataset"]["name"] == metadata.data
  assert result["dataset"]["split"] == "test"
  found = {
    f"{metadata.data}/test/{m['type']}": m["value"] for m in result["metrics"]
  }
  assert found.items() <= metadata.metrics.items()
  assert len(found) == len(metadata.metrics) - 1
  assert 'sa.load_pretrained("hf://me/slots")' in text
  assert text.lstrip().startswith("# slots\n")
  assert "| data |" in text


@needs_hub
def test_the_hub_s_own_reader_takes_the_card():
  from huggingface_hub import ModelCard

  metadata = sa.pretrained_metadata("quickstart")
  card = ModelCard(model_card.hub_card("me/slots", metadata))
  results = card.data.eval_results
  assert {r.metric_type for r in results} == {"ari", "fg_ari", "miou", "mse"}
  assert {r.dataset_name for r in results} == {"tetrominoes_scenes"}


def test_hub_names_are_recognized():
  assert hub.is_hub(NAME)
  assert not any(map(hub.is_hub, sa.pretrained_names()))
