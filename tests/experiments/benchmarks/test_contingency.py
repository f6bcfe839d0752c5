"""The benchmark of counting compares two forms that agree."""

import jax.numpy as jnp
import pytest

from experiments.benchmarks import contingency


def test_a_row_for_each_case(capsys, monkeypatch):
  seconds = {(1, 3, 2): (0.0123, 0.0246), (2, 5, 4): (0.05, 0.04)}
  monkeypatch.setattr(contingency, "_CASES", tuple(seconds))
  monkeypatch.setattr(contingency, "measure", lambda *case: seconds[case[:3]])
  contingency.main(["--repeats=1"])
  rows = capsys.readouterr().out.splitlines()[3:]
  assert rows == [
    "| 1 | 3 x 2 | 12.3 | 24.6 | 2.0 |",
    "| 2 | 5 x 4 | 50.0 | 40.0 | 0.8 |",
  ]


def test_forms_that_differ_are_not_timed(monkeypatch):
  monkeypatch.setattr(contingency, "_PIXELS", 64)
  seconds = contingency.measure(2, 5, 4, repeats=1, seed=0)
  assert len(seconds) == 2
  counting = contingency.contingency._by_counting
  monkeypatch.setattr(
    contingency.contingency,
    "_by_counting",
    lambda *ids, **sizes: counting(*ids, **sizes) + jnp.float32(1),
  )
  with pytest.raises(AssertionError):
    contingency.measure(2, 5, 4, repeats=1, seed=0)
