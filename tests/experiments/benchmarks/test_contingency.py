"""The benchmark of counting compares two forms that agree."""

from experiments.benchmarks import contingency


def test_a_row_for_each_case(capsys, monkeypatch):
  monkeypatch.setattr(contingency, "_CASES", ((1, 3, 2), (2, 5, 4)))
  monkeypatch.setattr(contingency, "_PIXELS", 64)
  contingency.main(["--repeats=1"])
  rows = capsys.readouterr().out.splitlines()[3:]
  cells = [[c.strip() for c in row.strip("|").split("|")] for row in rows]
  assert [c[:2] for c in cells] == [["1", "3 x 2"], ["2", "5 x 4"]]
  assert all(float(c[2]) > 0 and float(c[3]) > 0 for c in cells)
