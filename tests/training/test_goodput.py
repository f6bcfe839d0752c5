"""Where the time of a run went."""

import jax

from slot_attention_jax.runtime import kept_programs
from slot_attention_jax.training import goodput


def test_compilations_are_taken_from_the_phase_that_waits_for_them():
  now = 0.0
  event = "/jax/core/compile/backend_compile_duration"
  record = jax.monitoring.record_event_time_span
  with goodput.Goodput(-5.0, lost=10.0, clock=lambda: now) as spent:
    spent.on("steps")
    # A function that is compiled within another, and what is no compilation.
    record(event, 101.0, 102.0)
    record(event, 100.5, 103.0)
    record("/jax/other", 103.0, 109.0)
    now = 10.0
    spent.on("evaluation")
    record(event, 110.0, 111.0)
    now = 14.0
    spent.on("steps")
    now = 15.0
  assert spent.seconds == {
    "start": 5.0,
    "compile": 3.5,
    "steps": 8.5,
    "evaluation": 3.0,
  }
  assert str(spent) == (
    "Goodput 28 %: 8.5 of 30.0 s in steps; start 5.0, compile 3.5, "
    "evaluation 3.0, lost 10.0."
  )
  record(event, 120.0, 130.0)  # Nobody listens any more.
  spent.on("end")
  assert spent.seconds["compile"] == 3.5


def test_loading_and_keeping_programs_counts_as_compiling():
  now = 0.0
  record = jax.monitoring.record_event_time_span
  with goodput.Goodput(0.0, clock=lambda: now) as spent:
    spent.on("steps")
    record(kept_programs.LOAD_EVENT, 100.0, 102.0)
    record(kept_programs.KEEP_EVENT, 102.0, 103.0)
    now = 10.0
  assert spent.seconds == {"start": 0.0, "compile": 3.0, "steps": 7.0}


def test_processes_add_up_in_a_file(tmp_path):
  for seconds in (0.0, 2.0):
    now = iter([0.0, 2.0, 2.0 + seconds, 10.0])
    spent = goodput.Goodput(0.0, 1.0, tmp_path, clock=lambda now=now: next(now))
    with spent:
      spent.on("steps")
      spent.on("saves")
  with (tmp_path / goodput.FILE).open("a") as file:
    file.write('{"steps": 1')
  # A process that did no step leaves no line.
  assert goodput.read(tmp_path) == {
    "start": 2.0, "steps": 2.0, "saves": 6.0, "lost": 1.0
  }  # fmt: skip
  assert goodput.read(tmp_path / "none") == {}
