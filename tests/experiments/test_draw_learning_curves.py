"""Tests of the learning curves: lines, panels, labels and errors."""

import json
import math
import sys

import numpy as np
import pytest

from experiments import draw_learning_curves

DATA = "scenes/validation"


def row(step, seconds, **values):
  start = {"step": step, "time": "2026-01-01T00:00:00.000+00:00"}
  if seconds is not None:
    start["seconds"] = seconds
  return start | {f"{DATA}/{k}": v for k, v in values.items()}


DISCOVERY = [
  {"step": 1, "time": "", "seconds": 1.0, "scenes/train/loss": 3.0},
  row(10, 60.0, fg_ari=0.25, ari=0.5, mse=0.125),
  {"step": 20, "time": "", "seconds": 90.0, "scenes/train/loss": 2.0},
  row(20, 90.0, fg_ari="nan", ari=0.625, mse="inf"),
  row(30, 150.0, fg_ari=0.75, ari=0.5, mse=0.0625),
]
AP = [
  row(5, 30.0, **{"loss": 1.0, "ap_inf": 0.5, "ap_1": 0.25, "ap_0.5": 0.125}),
  row(9, 45.0, **{"loss": 0.5, "ap_inf": 0.75, "ap_1": 0.5, "ap_0.5": 0.25}),
]


def write(path, rows):
  path.mkdir(parents=True)
  text = "".join(json.dumps(r) + "\n" for r in rows)
  (path / "metrics.jsonl").write_text(text)
  return path


@pytest.fixture
def figures(monkeypatch):
  """Figures saved during a test."""
  pytest.importorskip("matplotlib")
  saved = []
  save = draw_learning_curves.figures.save

  def keep(figure, path):
    saved.append(figure)
    save(figure, path)

  monkeypatch.setattr(draw_learning_curves.figures, "save", keep)
  return saved


def run(tmp_path, capsys, *arguments):
  """Draws a figure; returns the result and the lines of the table."""
  path = tmp_path / "figures" / "curves.png"
  result = draw_learning_curves.main([f"--figure={path}", *arguments])
  assert path.read_bytes().startswith(b"\x89PNG")
  lines = capsys.readouterr().out.splitlines()
  assert lines[-1] == json.dumps(result)
  return result, lines[:-1]


def get_lines_by_label(axis):
  return {
    line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
    for line in axis.get_lines()
  }


def get_legend(figure):
  (legend,) = figure.legends
  return [text.get_text() for text in legend.get_texts()]


def test_lines_show_the_values_of_the_rows(tmp_path, capsys, figures):
  first = write(tmp_path / "a", DISCOVERY)
  second = write(tmp_path / "b", [DISCOVERY[1]])
  _, table = run(tmp_path, capsys, f"--runs=seed 0={first},seed 1={second}")
  (axis,) = figures[0].axes
  found = get_lines_by_label(axis)
  assert list(found) == get_legend(figures[0]) == ["seed 0", "seed 1"]
  x, y = found["seed 0"]
  assert x == [10, 20, 30]
  np.testing.assert_array_equal(y, [0.25, math.nan, 0.75])
  assert found["seed 1"] == ([10], [0.25])
  assert axis.get_title() == "FG-ARI"
  assert axis.get_xlabel() == "updates"
  assert figures[0].get_suptitle() == DATA
  assert table == [
    "| run | data | updates | minutes | fg_ari |",
    "|---|---|---|---|---|",
    f"| seed 0 | {DATA} | 30 | 2.5 | 0.7500 |",
    f"| seed 1 | {DATA} | 10 | 1.0 | 0.2500 |",
  ]


def test_minutes_and_other_metrics(tmp_path, capsys, figures):
  path = write(tmp_path / "a", DISCOVERY)
  run(
    tmp_path, capsys, f"--run=x={path}", "--over=minutes", "--metrics=ari,mse"
  )
  left, right = figures[0].axes
  assert get_lines_by_label(left) == {"x": ([1.0, 1.5, 2.5], [0.5, 0.625, 0.5])}
  assert get_lines_by_label(right) == {
    "x": ([1.0, 1.5, 2.5], [0.125, math.inf, 0.0625])
  }
  assert [axis.get_title() for axis in (left, right)] == ["ARI", "MSE"]
  assert left.get_xlabel() == "minutes"


def test_set_prediction_has_a_panel_for_each_threshold(
  tmp_path, capsys, figures
):
  path = write(tmp_path / "run-1", AP)
  _, table = run(tmp_path, capsys, f"--runs={path}")
  panels = {
    axis.get_title(): get_lines_by_label(axis) for axis in figures[0].axes
  }
  assert panels == {
    "AP at infinity": {"run-1": ([5, 9], [0.5, 0.75])},
    "AP at 1": {"run-1": ([5, 9], [0.25, 0.5])},
    "AP at 0.5": {"run-1": ([5, 9], [0.125, 0.25])},
  }
  assert table[2] == f"| run-1 | {DATA} | 9 | 0.8 | 0.7500 | 0.5000 | 0.2500 |"


def test_runs_of_both_tasks_and_several_datasets(tmp_path, capsys, figures):
  set_prediction = write(tmp_path / "set", AP)
  plain = write(
    tmp_path / "plain",
    [{"step": 7, "seconds": 6.0, "clevr:3.1.0/test/mse": 0.5}],
  )
  discovery = write(tmp_path / "discovery", DISCOVERY)
  run(
    tmp_path, capsys, f"--runs={set_prediction},{plain}", f"--run={discovery}"
  )
  titles = [axis.get_title() for axis in figures[0].axes]
  assert titles == ["FG-ARI", "AP at infinity", "AP at 1", "AP at 0.5", "MSE"]
  assert not figures[0].get_suptitle()
  mse = get_lines_by_label(figures[0].axes[-1])
  assert mse["plain (clevr:3.1.0/test)"] == ([7], [0.5])
  assert get_legend(figures[0]) == [
    f"set ({DATA})",
    "plain (clevr:3.1.0/test)",
    f"discovery ({DATA})",
  ]
  # A run has one color in all panels.
  colors = {
    line.get_color()
    for axis in figures[0].axes[1:4]
    for line in axis.get_lines()
  }
  assert len(colors) == 1


def test_a_path_of_metrics_jsonl(tmp_path, capsys, figures):
  workdir = write(tmp_path / "run", DISCOVERY)
  run(tmp_path, capsys, f"--run={workdir}", f"--run=b={workdir}/metrics.jsonl")
  found = get_lines_by_label(figures[0].axes[0])
  assert found["run"][0] == found["b"][0] == [10, 20, 30]
  np.testing.assert_array_equal(found["run"][1], found["b"][1])


def test_an_incomplete_last_row_is_skipped(tmp_path):
  path = write(tmp_path / "run", DISCOVERY) / "metrics.jsonl"
  complete = draw_learning_curves.read_rows(path)
  assert len(complete) == 5
  with path.open("a") as file:
    file.write('{"step": 40, "sce')
  assert draw_learning_curves.read_rows(path) == complete
  with path.open("a") as file:
    file.write("\n")
  with pytest.raises(ValueError, match=r"step in line 6 of .*run"):
    draw_learning_curves.read_rows(path)


def test_invalid_runs_raise(tmp_path, capsys, figures):
  path = write(tmp_path / "run", DISCOVERY)
  with pytest.raises(FileNotFoundError, match=r"found no metrics\.jsonl"):
    run(tmp_path, capsys, f"--run={tmp_path}")
  with pytest.raises(ValueError, match=r"out of .*'fg_ari'.* got \['ap_1'\]"):
    run(tmp_path, capsys, f"--run={path}", "--metrics=ap_1")
  started = write(tmp_path / "started", DISCOVERY[:1])
  with pytest.raises(ValueError, match="rows of an evaluation"):
    run(tmp_path, capsys, f"--run={started}")
  old = write(tmp_path / "old", [row(1, None, fg_ari=0.5)])
  _, table = run(tmp_path, capsys, f"--run={old}")
  assert table[2] == f"| old | {DATA} | 1 | unknown | 0.5000 |"
  with pytest.raises(ValueError, match="rows of 'old' for --over=minutes"):
    run(tmp_path, capsys, f"--run={old}", "--over=minutes")
  with pytest.raises(SystemExit):
    run(tmp_path, capsys)
  with pytest.raises(SystemExit):
    run(tmp_path, capsys, "--run==x")


def test_missing_matplotlib_raises(tmp_path, monkeypatch):
  path = write(tmp_path / "run", DISCOVERY)
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  with pytest.raises(ValueError, match="pip install matplotlib"):
    draw_learning_curves.main(
      [f"--run={path}", f"--figure={tmp_path / 'x.png'}"]
    )
