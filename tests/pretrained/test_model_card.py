"""Tests of the model card: it says what the metadata says."""

import dataclasses

import pytest

from slot_attention_jax import pretrained
from slot_attention_jax.data import types
from slot_attention_jax.pretrained import model_card

METADATA = pretrained.pretrained_metadata("quickstart")


def card(**changes):
  return model_card.model_card("toys", dataclasses.replace(METADATA, **changes))


def test_card_has_all_metadata():
  text = card(
    command="--config=configs/toys.py --config.seed=3",
    data="toys",
    seed=33,
    hardware="1 x abacus",
    minutes=12.34,
    metrics={
      "toys/test/fg_ari": 0.98765,
      "toys/test/fg_ari_attention": 0.5,
      "toys/test/within_0.5": 0.25,
      "toys/test/mse": "nan",
    },
    date="2026-01-02",
    license="CC0-1.0",
    versions={"jax": "9.9"},
    notes="The better of two.",
  )
  for part in (
    "# toys\n",
    "`python -m slot_attention_jax.main --config=configs/toys.py "
    "--config.seed=3`",
    "| data | toys |",
    "| seed | 33 |",
    "| hardware | 1 x abacus |",
    "| minutes | 12.3 |",
    "| toys/test/fg_ari | 0.9877 | adjusted Rand index of the foreground's",
    "| toys/test/fg_ari_attention | 0.5000 | of the attention, not",
    "| toys/test/within_0.5 | 0.2500 | share of objects within 0.5 (data's",
    "| toys/test/mse | nan | mean squared error on [-1, 1]; lower |",
    "| date | 2026-01-02 |",
    "CC0-1.0",
    "jax 9.9",
    "The better of two.",
    "Of 320 examples, with 5 slots and 5 iterations.",
    "[B, 28, 28, 3]",
  ):
    assert part in text


def test_card_tells_steps_that_are_missing():
  assert "| steps | 12,000 |" in card(steps=12_000, planned_steps=12_000)
  short = card(steps=5_000, planned_steps=12_000)
  assert "| steps | 5,000 of the 12,000 " in short


def test_card_says_if_scenes_are_synthetic():
  assert "scenes are synthetic" in card(synthetic_scenes=True)
  assert "synthetic" not in card(synthetic_scenes=False)


def test_command_has_the_keys_of_today():
  text = card(command="--config=a.py --config.data.num_scenes=9")
  assert "--config=a.py --config.data.scenes.num_eval=9`" in text


def test_set_predictors_list_their_properties():
  text = card(task="set_prediction", layout=types.CLEVR_LAYOUT)
  assert "coords (3), size (2), material (2), shape (3), color (8)" in text
  assert "SlotAttentionClassifier" in text


@pytest.mark.parametrize("name", pretrained.pretrained_names())
def test_shipped_cards_are_up_to_date(name):
  path = pretrained._path_of(name).with_suffix(".md")
  metadata = pretrained.pretrained_metadata(name)
  assert path.read_text(encoding="utf-8") == model_card.model_card(
    name, metadata
  )
