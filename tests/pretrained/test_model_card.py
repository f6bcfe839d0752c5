"""Tests of the model card: it says what the facts say."""

import dataclasses

import pytest

from slot_attention_jax import pretrained
from slot_attention_jax.data import types
from slot_attention_jax.pretrained import model_card

FACTS = pretrained.pretrained_facts("quickstart")


def card(**changes):
  return model_card.model_card("toys", dataclasses.replace(FACTS, **changes))


def test_every_fact_is_on_the_card():
  text = card(
    recipe="--config=configs/toys.py --config.seed=3",
    data="toys",
    seed=33,
    hardware="1 x abacus",
    minutes=12.34,
    metrics={"toys/test/fg_ari": 0.98765, "toys/test/mse": "nan"},
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
    "| toys/test/fg_ari | 0.9877 |",
    "| toys/test/mse | nan |",
    "| date | 2026-01-02 |",
    "CC0-1.0",
    "jax 9.9",
    "The better of two.",
    "Of 320 examples, with 4 slots and 3 iterations.",
    "[B, 28, 28, 3]",
  ):
    assert part in text


def test_updates_that_were_not_done_are_no_secret():
  assert "| updates | 12,000 |" in card(updates=12_000, planned_updates=12_000)
  short = card(updates=5_000, planned_updates=12_000)
  assert "| updates | 5,000 of the 12,000 " in short


def test_only_own_scenes_are_called_own():
  assert "package's own renderings" in card(own_scenes=True)
  assert "package's own renderings" not in card(own_scenes=False)


def test_a_set_predictor_tells_its_properties():
  text = card(task="set_prediction", layout=types.CLEVR_LAYOUT)
  assert "coords (3), size (2), material (2), shape (3), color (8)" in text
  assert "SlotAttentionClassifier" in text


@pytest.mark.parametrize("name", pretrained.pretrained_names())
def test_cards_that_are_shipped_are_made_of_the_facts(name):
  path = pretrained._path_of(name).with_suffix(".md")
  facts = pretrained.pretrained_facts(name)
  assert path.read_text(encoding="utf-8") == model_card.model_card(name, facts)
