"""Tests of the figure of masks over training."""

import numpy as np
import pytest

from experiments import draw_masks_over_training as script


def evaluations(run, steps, **extra):
  (run / "figures").mkdir(parents=True)
  for step in steps:
    masks = np.zeros((2, 3, 4, 4), np.uint8)
    masks[:, 1] = 255
    arrays = {"image": np.zeros((2, 4, 4, 3), np.uint8), "masks": masks}
    arrays["score_ARI"] = np.float32([step / 100, 0])
    np.savez(run / "figures" / f"{step:08}.npz", **(arrays | extra))
  (run / "figures" / "test.npz").write_bytes(b"of another split")
  return run


@pytest.mark.parametrize(
  ("steps", "columns", "expected"),
  [
    ([5], 3, [5]),
    ([1, 2, 3], 1, [3]),
    ([1, 2, 3], 9, [1, 2, 3]),
    (list(range(10)), 4, [0, 3, 6, 9]),
  ],
)
def test_evaluations_are_chosen_from_first_to_last(steps, columns, expected):
  assert script.choose(steps, columns) == expected


def test_each_image_of_each_run_has_a_row(tmp_path):
  pytest.importorskip("matplotlib")
  a = evaluations(tmp_path / "a", [10, 20, 30])
  truth = np.zeros((2, 4, 4), np.uint8)
  truth[:, 0] = 2
  b = evaluations(tmp_path / "b", [10], segmentation=truth)
  runs = {"first": script.read(a, 2), "second": script.read(b, 2)}
  axes = np.reshape(script.draw(runs, 9).axes, (4, 4))
  titles = [[panel.get_title() for panel in row] for row in axes]
  assert titles[0] == ["first", "", "10: 0.10", "30: 0.30"]
  assert titles[1] == ["", "", "10: 0.00", "30: 0.00"]
  assert titles[2] == ["second", "ground truth", "10: 0.10", ""]
  # All pixels are slot 1's, and object 2 has the color of slot 1.
  orange = (230, 159, 0)
  assert (axes[0, 2].images[0].get_array() == orange).all()
  drawn = axes[2, 1].images[0].get_array()
  assert (drawn[0] == orange).all()
  assert (drawn[1:] == 232).all()


def test_the_command_writes_the_figure_and_the_scores(tmp_path, capsys):
  pytest.importorskip("matplotlib")
  run = evaluations(tmp_path / "a", [10, 20])
  figure = tmp_path / "new" / "masks.png"
  result = script.main([f"--figure={figure}", f"--run=mine={run}"])
  assert figure.stat().st_size > 1000
  assert result["mine"][20]["score_ARI"] == pytest.approx([0.2, 0])
  assert '"score_ARI": [0.2, 0.0]' in capsys.readouterr().out


def test_runs_without_masks_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"figures to have STEP\.npz"):
    script.read(tmp_path, 2)
  (tmp_path / "figures").mkdir()
  np.savez(tmp_path / "figures" / "1.npz", predictions=np.zeros(2))
  with pytest.raises(ValueError, match=r"Expected masks in .*predictions"):
    script.read(tmp_path, 2)


@pytest.mark.parametrize(
  "wrong",
  [
    *(["--run=a"], ["--run==a"], ["--images=0"], ["--columns=0"]),
    ["--run=other=/no/such/run"],
  ],
)
def test_wrong_arguments(wrong, tmp_path):
  run = evaluations(tmp_path / "a", [10])
  arguments = [f"--figure={tmp_path / 'a.png'}", f"--run=mine={run}", *wrong]
  with pytest.raises(SystemExit) as exit_:
    script.main(arguments)
  assert exit_.value.code == 2
