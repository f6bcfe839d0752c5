"""Tests of what a run says before its first step and after its last."""

import shlex

from slot_attention_jax.runtime import progress
from slot_attention_jax.training import next_steps


def test_the_end_names_the_picture_and_commands(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  run = tmp_path / "my runs" / "1"
  (run / "figures").mkdir(parents=True)
  for name in ("00000900.png", "00001000.png", "evaluation.png"):
    (run / "figures" / name).touch()
  text = next_steps.describe(
    run, "--config=quickstart", step=1000, total=2000, best=900,
    data_dir="/my data",
  )  # fmt: skip
  first, *others = text.splitlines()
  assert first == (
    "Step 1000 of 2000 in my runs/1: last checkpoint 1000, best 900."
  )
  rows = dict(line.split(maxsplit=1) for line in others[2:])
  assert "look at   my runs/1/figures/00001000.png" in others[0]
  assert "the same command resumes" in others[1]
  assert shlex.split(rows["evaluate"]) == [
    "slot-attention",
    "--mode=evaluate",
    "--config=quickstart",
    "--config.data.data_dir=/my data",
    "--workdir=my runs/1",
  ]
  assert shlex.split(rows["report"]) == [
    "slot-attention",
    "report",
    "my runs/1",
  ]
  assert shlex.split(rows["predict"])[:3] == [
    "slot-attention",
    "predict",
    "--model=my runs/1",
  ]
  assert rows["load"] == "sa.predict(images, model='my runs/1')"
  # A run has its config with it, in which the directory of the data is.
  (run / "config.json").touch()
  text = next_steps.describe(
    run, "--config=quickstart", step=9, total=9, best=9, data_dir="/my data"
  )
  (line,) = (x for x in text.splitlines() if "evaluate  " in x)
  assert shlex.split(line)[1:] == [
    "slot-attention",
    "--mode=evaluate",
    "--config=my runs/1/config.json",
    "--workdir=my runs/1",
  ]


def test_only_the_first_call_compiles_and_restarts_the_bar():
  calls = []

  class Bar(progress.Progress):
    def restart(self, done):
      calls.append(("restart", done))

  step = next_steps.announce_compilation(
    lambda *args: calls.append(args) or args, Bar(10, "x"), 4
  )
  assert step(1, 2) == (1, 2)
  assert step(3) == (3,)
  assert calls == [(1, 2), ("restart", 4), (3,)]
