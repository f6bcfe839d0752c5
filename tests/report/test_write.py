"""Tests of reports as a whole: what they hold, and what they refuse."""

import html
import json
import re
import shlex
import types

import pytest

import slot_attention_jax as sa
from slot_attention_jax.evaluation import arrays
from slot_attention_jax.report import command_line, page
from tests.report import made_up

HOSTILE = '</script><script>alert("1")</script>&<img src=x onerror=alert(2)>'


def data_of(text):
  """The data that a page's script reads."""
  (found,) = re.findall(
    r'<script type="application/json" id="data">(.*?)</script>', text
  )
  return json.loads(found)


def test_the_report_of_a_run_has_all_of_it(tmp_path, capsys):
  run = made_up.make(tmp_path / "run")
  arrays.save(run / "figures" / "00000002.npz", made_up.arrays())
  arrays.save(run / "figures" / "00000004.npz", made_up.arrays())
  (run / "goodput.jsonl").write_text('{"steps": 3, "start": 1}\n')
  command_line.main([str(run)])
  assert f"{run / 'report.html'} (" in capsys.readouterr().out
  text = (run / "report.html").read_text()
  for words in ("4 of 4", "75 %", "--config=quickstart", "num_slots", "0.375"):
    assert words in text
  data = data_of(text)
  assert [c["title"] for c in data["charts"]] == ["loss and mse", "fg_ari"]
  labels = [e["label"] for e in data["viewer"]["entries"]]
  assert labels == ["step 2", "step 4"]


def test_the_page_asks_nothing_of_the_network(tmp_path):
  text = sa.write_report(made_up.make(tmp_path / "run")).read_text()
  assert "default-src 'none'" in text
  addresses = re.findall(r"\w+://[^\"' ]+", text)
  assert set(addresses) <= {"http://www.w3.org/2000/svg"}


def test_what_comes_from_a_run_is_text(tmp_path):
  about = {"recipe": HOSTILE, "data": HOSTILE, "versions": {HOSTILE: HOSTILE}}
  rows = [{**made_up.ROWS[0], f"{HOSTILE}/{HOSTILE}/{HOSTILE}": 1.0}]
  one = made_up.make(
    tmp_path / "<img src=x>", rows, about, data__name=HOSTILE, data__crop="'\""
  )
  (one / "evaluation.json").write_text(
    json.dumps({"metrics": {HOSTILE: 1}, "protocol": {HOSTILE: HOSTILE}})
  )
  other = made_up.make(tmp_path / "other", rows)
  for runs in ([one], [one, other]):
    text = sa.write_report(runs, tmp_path / "page.html").read_text()
    assert "onerror" in text
    assert not re.search(r"<img|<script>alert", text)
    assert text.count("<script") == 2
    assert text.count("</script>") == 2


def test_an_unfinished_run_with_a_torn_line_is_reported(tmp_path):
  run = made_up.make(tmp_path / "run", made_up.ROWS[:2])
  with (run / "metrics.jsonl").open("a") as file:
    file.write('damaged\n{"step": 3, "ti')
  text = sa.write_report(run).read_text()
  assert "2 of 4, unfinished" in text
  assert "2 lines of metrics.jsonl left out" in text
  assert "0.7" in text


@pytest.mark.parametrize("content", ["", None])
def test_a_run_without_metrics_is_reported(tmp_path, content):
  run = made_up.make(tmp_path / "run", [])
  if content is None:
    (run / "metrics.jsonl").unlink()
  text = sa.write_report(run).read_text()
  assert "no metrics yet" in text
  assert "0 of 4, unfinished" in text


def test_damaged_files_are_named_on_the_page(tmp_path):
  run = made_up.make(tmp_path / "run")
  (run / "metadata.json").write_text("{")
  (run / "goodput.jsonl").write_text('{"steps": [\n3\n{"steps": "x"}\n')
  (run / "evaluation.json").write_text('{"metrics": {"a/b/c": [1]}}')
  arrays.save(run / "figures" / "00000002.npz", made_up.arrays())
  (run / "figures" / "00000004.npz").write_bytes(b"PK\x03\x04 torn")
  text = sa.write_report(run).read_text()
  assert "metadata.json to be JSON" in text
  assert "00000004.npz is left out" in text
  assert len(data_of(text)["viewer"]["entries"]) == 1


def test_files_that_hold_anything_make_a_page(tmp_path):
  strange = [5, "x", None, [1], {"a": [{}]}, {"data": 3}, 10**400]
  runs = []
  for n, value in enumerate(strange):
    run = made_up.make(tmp_path / f"run{n}")
    about = dict.fromkeys(
      ("data", "recipe", "versions", "layout", "changes", "devices"), value
    )
    config = dict.fromkeys(("data", "train", "seed", "model"), value)
    measured = {"metrics": value, "standard_errors": value, "protocol": value}
    (run / "metadata.json").write_text(json.dumps(about))
    (run / "config.json").write_text(json.dumps(config))
    (run / "evaluation.json").write_text(json.dumps(measured))
    with (run / "metrics.jsonl").open("a") as file:
      row = made_up.row(5, train_loss=1.0) | {"step": value}
      file.write(json.dumps(row) + "\n")
      file.write(json.dumps(made_up.row(5, train_loss=value)) + "\n")
    assert "<h1>" in sa.write_report(run).read_text()
    runs.append(run)
  page = sa.write_report(runs, tmp_path / "page.html")
  assert f"{len(strange)} runs" in page.read_text()


def test_a_run_without_arrays_shows_figures_and_says_how_to_get_them(tmp_path):
  run = made_up.make(tmp_path / "run")
  (run / "figures").mkdir()
  for name in ("00000002", "00000010", "evaluation"):
    (run / "figures" / f"{name}.png").write_bytes(name.encode())
  text = sa.write_report(run).read_text()
  assert f"slot-attention --mode=evaluate --config={run}/config.json" in text
  data = data_of(text)
  assert data["viewer"] is None
  labels = [f["label"] for f in data["figures"]]
  assert labels == ["step 2", "step 10", "separate evaluation"]


def test_several_runs_are_compared_and_seeds_averaged(tmp_path):
  rows = [made_up.row(4, validation_mse=0.125, validation_fg_ari=0.75)]
  runs = [
    made_up.make(tmp_path / "a"),
    made_up.make(tmp_path / "b", rows, seed=1),
    made_up.make(tmp_path / "c", rows, optim__learning_rate=0.5),
  ]
  text = sa.write_report(runs, tmp_path / "page.html").read_text()
  assert "a, mean of 2 seeds" in text
  assert "0.625 ± 0.12" in text  # FG-ARI of 0.5 and 0.75.
  assert "optim.learning_rate" in text
  assert "slot_size" not in text
  (chart,) = [c for c in data_of(text)["charts"] if c["title"] == "fg_ari"]
  assert len(chart["curves"]) == 3
  assert [len(c["points"]) for c in chart["means"]] == [1, 1]
  assert chart["means"][0]["points"] == [[4, 4.0, 0.625, 0.125]]


def refuse(capsys, *arguments):
  with pytest.raises(SystemExit) as reason:
    command_line.main([str(a) for a in arguments])
  assert reason.value.code == 2
  return capsys.readouterr().err


def test_what_is_no_run_is_refused(tmp_path, capsys):
  run = made_up.make(tmp_path / "runs" / "one")
  assert "found no directory" in refuse(capsys, tmp_path / "none")
  assert "Runs in it: ['one']" in refuse(capsys, run.parent)
  assert "Expected --output" in refuse(
    capsys, run, made_up.make(tmp_path / "two")
  )
  assert "more than once" in refuse(capsys, run, run, "--output=x.html")
  assert "got the directory" in refuse(capsys, run, f"--output={tmp_path}")
  assert not (run / "report.html").exists()
  with pytest.raises(ValueError, match="at least one run"):
    sa.write_report([])


def test_the_command_that_evaluates_can_be_pasted(tmp_path):
  run = made_up.make(tmp_path / "my 'run")
  text = html.unescape(sa.write_report(run).read_text())
  (command,) = re.findall(
    r"slot-attention --mode=evaluate .*?(?=</code>)", text
  )
  assert shlex.split(command)[2:] == [
    f"--config={run}/config.json",
    f"--workdir={run}",
  ]


def test_a_run_without_its_config_is_evaluated_with_one_by_name(tmp_path):
  run = made_up.make(tmp_path / "run")
  (run / "config.json").unlink()
  text = sa.write_report(run).read_text()
  assert f"--mode=evaluate --config=NAME --workdir={run}</code>" in text


def test_a_run_in_a_bucket_is_evaluated_with_a_copy_of_its_config(
  tmp_path, monkeypatch
):
  run = made_up.make(tmp_path / "run")
  bucket = types.SimpleNamespace(is_remote=lambda path: path == run)
  monkeypatch.setattr(page, "storage", bucket)
  text = sa.write_report(run, tmp_path / "page.html").read_text()
  assert (
    f"--mode=evaluate --config=config.json --workdir={run}</code> in a "
    f"directory with a copy of {run}/config.json"
  ) in text
