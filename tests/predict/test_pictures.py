"""Tests of pictures of predictions."""

import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax.predict import pictures


def test_a_misspelled_name_of_weights_is_corrected():
  with pytest.raises(ValueError, match="Did you mean 'clevr6_small'"):
    sa.predict([np.zeros((8, 8, 3), np.uint8)], model="clevr6_smal")


@pytest.mark.parametrize(
  ("size", "factor"),
  [((28, 28), 14), ((400, 600), 1), ((1, 60), 68), ((1, 5000), 1)],
)
def test_no_picture_gets_too_wide(size, factor):
  assert pictures.enlargement(np.zeros(size)) == factor
