"""Tests of the study of what tells where objects are."""

import json

import numpy as np
import pytest

from experiments import study_positions


def test_a_fit_finds_what_the_inputs_tell():
  rng = np.random.default_rng(0)
  coordinates = np.float32(rng.uniform(-3, 3, (800, 3)))
  told = study_positions.errors(10 * coordinates - 5, coordinates, 400, 0)
  noise = rng.normal(size=coordinates.shape).astype(np.float32)
  untold = study_positions.errors(noise, coordinates, 400, 0)
  assert told.shape == untold.shape == (200,)
  assert np.median(told) < 0.2
  assert np.median(untold) > 2


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (
      ["--model=quickstart"],
      "set predictor of synthetic CLEVR scenes, got qui",
    ),
    (["--model=clevr6"], "got clevr6, of clevr_scenes_3_to_6. Try clevr_set"),
    (["--num_scenes=0"], "--num_scenes of at least 1"),
  ],
)
def test_other_models_and_no_scenes_are_errors(arguments, message, capsys):
  with pytest.raises(SystemExit):
    study_positions.main(arguments)
  assert message in capsys.readouterr().err


@pytest.mark.slow
def test_true_masks_tell_more_than_slots(capsys):
  result = study_positions.main(
    ["--model=clevr_set_small", "--num_scenes=80", "--num_steps=400"]
  )
  lines = capsys.readouterr().out.splitlines()
  assert json.loads(lines[-1]) == result
  assert len(lines) == 2 + len(result["rows"]) + 1
  rows = result["rows"]
  assert 400 < result["num_objects"] < 80 * 10
  for name in ("slots", "attention^1"):
    assert rows["mask"][0] > rows[name][0]
  assert rows["attention^4"][1] > rows["attention^1"][1]
