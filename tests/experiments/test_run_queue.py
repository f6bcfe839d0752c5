"""The queue of runs for a GPU: its table, its runner, what travels."""

import json
import pathlib
import shlex
import shutil
import tarfile
import time

import pytest

from experiments import kill_and_resume, queue_table, run_archive, run_queue
from slot_attention_jax import train

HEADER = """# Queue

Text | with a bar.

| not | it |
|---|---|
| a | b |

| id | what | command | minutes | state | status | result |
|---|---|---|---|---|---|---|
"""
CONFIG = (
  f"{kill_and_resume.CONFIG},train.num_steps=2,eval.every_steps=1,"
  "checkpoint.best_metric=mse,checkpoint.best_mode=max,logging.num_images=0"
)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
  """Pieces of these tests are shorter than the start of Python."""
  monkeypatch.setattr(run_queue, "GRACE_MINUTES", 4.0)


def line(name, command="true", minutes=1, status="open", kind="txt"):
  return (
    f"| {name} | what | `{command}` | {minutes} | `{name}.{kind}` | {status} | "
    "|\n"
  )


def write(directory, *lines):
  path = directory / "queue.md"
  path.write_text(f"{HEADER}{''.join(lines)}\nMore text.\n")
  return path


def row_of(path, name):
  return {row.id: row for row in queue_table.read(path)}[name]


def python(code):
  return f"python -c {shlex.quote(code)}"


def rows_of(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  rows = [json.loads(text) for text in lines]
  return [
    {k: v for k, v in row.items() if k not in ("time", "seconds")}
    for row in rows
  ]


def test_the_queue_of_the_repository_reads_and_fits_pieces(tmp_path, capsys):
  path = tmp_path / "gpu_queue.md"
  shutil.copy(run_queue.ROOT / "experiments" / "gpu_queue.md", path)
  rows = queue_table.read(path)
  order = ["tetrominoes", "clevr-set", "clevr6", "multi-dsprites"]
  assert [row.id for row in rows[:4]] == [f"{task}-fast-0" for task in order]
  others = [row for row in rows if not row.training]
  assert all(r.minutes <= run_queue.LONGEST_PIECE_MINUTES for r in others)
  trainings = [row for row in rows if row.training]
  assert {row.id for row in trainings} == {
    f"{task}-{recipe}{seed}"
    for task in order
    for recipe in ("fast-", "")
    for seed in range(5)
  }
  for row in trainings:
    _, _, seed = row.id.rpartition("-")
    assert (".py:fast " in row.command) == ("-fast-" in row.id)
    assert f" --config.seed={seed} " in row.command
    assert row.command.endswith(f"--workdir=runs/queue/{row.id}")
  assert len({row.command for row in rows}) == len(rows)
  before = path.read_text()
  for row in rows:
    queue_table.update(path, row)
  assert path.read_text() == before
  run_queue.main([f"--queue={path}", "--list"])
  listed = capsys.readouterr().out.splitlines()
  assert [text.split()[0] for text in listed] == [row.id for row in rows]
  assert all(str(r.status) in x for r, x in zip(rows, listed, strict=True))


@pytest.mark.parametrize(
  "text",
  [
    "open",
    "at step 3000 of 500000, 8.5 min",
    "done, 13.0 min",
    "failed, 0.5 min: exit status 1: ValueError: Expected x, got y.",
  ],
)
def test_a_status_is_read_as_it_is_written(text):
  assert str(queue_table.Status.parse(text)) == text


@pytest.mark.parametrize(
  ("bad", "message"),
  [
    (line("a", status="almost"), "status 'open', .* got 'almost'"),
    (line("a", status="at step x of 3"), "got 'at step x of 3'"),
    (line("a", minutes="five"), "minutes in the row a, got 'five'"),
    (line("a") + line("b") + line("a"), r"each id once .* twice \['a'\]"),
    (line("a/b"), "names files, got 'a/b'"),
    (line("a", kind="zip"), "state a.tar of a training .* got 'a.zip'"),
    (line("a", kind="tar"), "--workdir= in the command of the training a"),
    ("| a | b |\n", "Expected 7 cells, id, what"),
    ("", "Expected a table with the columns id"),
  ],
)
def test_a_table_that_is_not_right_is_an_error(tmp_path, bad, message):
  with pytest.raises(ValueError, match=message):
    queue_table.read(write(tmp_path, bad))


def test_the_first_row_that_is_not_done_and_fits_is_chosen(tmp_path):
  training = line("training", "x --workdir=y", 444, kind="tar")
  rows = queue_table.read(
    write(
      tmp_path,
      line("done", status="done, 1.0 min"),
      line("failed", status="failed, 1.0 min: why"),
      line("long", minutes=8),
      line("short", minutes=2),
      training,
    )
  )
  assert queue_table.choose(rows, 9).id == "long"
  assert queue_table.choose(rows, 2).id == "short"
  assert queue_table.choose(rows, 1).id == "training"
  assert queue_table.choose(rows[:3], 2) is None


def test_a_command_runs_and_its_last_json_is_kept(tmp_path, capsys):
  first = python(
    "print({}); open('FILE', 'w')".replace("FILE", f"{tmp_path}/x")
  )
  second = python('print("{\\"a\\": 1}\\n{\\"ratio\\": 2.5}\\nand text")')
  queue = write(tmp_path, line("bench", f"{first} && {second}"), line("next"))
  report = run_queue.main(
    [
      f"--queue={queue}",
      "--minutes=9",
      f"--state_dir={tmp_path / 'state'}",
      f"--copy_to={tmp_path / 'out'}",
    ]
  )
  assert json.loads(capsys.readouterr().out.splitlines()[-1]) == report
  assert report["id"] == "bench"
  assert (tmp_path / "x").exists()
  state = tmp_path / "state"
  assert json.loads((state / "bench.json").read_text()) == {"ratio": 2.5}
  assert (state / "bench.txt").read_text().splitlines()[-1] == "and text"
  row = row_of(queue, "bench")
  assert row.status.kind == "done"
  assert row.result == "in `bench.txt` and `bench.json`"
  # Everything else is as it was.
  expected = write(tmp_path, line("bench"), line("next")).read_text()
  updated = (tmp_path / "out" / "queue.md").read_text()
  pairs = zip(updated.splitlines(), expected.splitlines(), strict=True)
  assert sum(a != b for a, b in pairs) == 1
  names = {"queue.md", "bench.txt", "bench.json"}
  assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_a_command_that_fails_is_reported_and_can_be_tried_again(tmp_path):
  marker = tmp_path / "marker"
  code = f"import pathlib; print('begun'); print(pathlib.Path({str(marker)!r})"
  queue = write(
    tmp_path,
    line("bad", python(f"{code}.read_text())")),
    line("gone", "no_such_program --flag"),
    line("good"),
  )

  def run(**options):
    return run_queue.run_next(queue, 9, tmp_path / "state", **options)

  assert run()["status"].startswith("failed")
  row = row_of(queue, "bad")
  assert row.status.kind == "failed"
  assert row.status.reason.startswith("exit status 1: FileNotFoundError: ")
  assert "begun" in (tmp_path / "state" / "bad.txt").read_text()
  # It does not keep the others waiting.
  assert run()["id"] == "gone"
  reason = row_of(queue, "gone").status.reason
  assert reason.startswith("cannot run no_such_program: No such file")
  assert run()["id"] == "good"
  assert run() == {"id": None, "status": "nothing left that fits 9 min"}
  marker.write_text("there")
  assert run(only="bad")["status"].startswith("done")
  with pytest.raises(ValueError, match="not done, got 'bad'"):
    run(only="bad")
  with pytest.raises(ValueError, match="not done, got 'other'"):
    run(only="other")


def test_a_command_that_takes_too_long_is_killed(tmp_path, monkeypatch):
  monkeypatch.setattr(run_queue, "GRACE_MINUTES", 0.0)
  # Its child would keep the device from the next row.
  command = f"sh -c {shlex.quote('sleep 600 & echo $!; wait')}"
  queue = write(tmp_path, line("slow", command, minutes=0.01))
  run_queue.run_next(queue, 0.02, tmp_path / "state")
  row = row_of(queue, "slow")
  assert (row.status.kind, row.status.reason[:12]) == ("failed", "killed after")
  child = (tmp_path / "state" / "slow.txt").read_text().strip()
  stat = pathlib.Path("/proc") / child / "stat"

  def runs():
    return stat.exists() and stat.read_text().split()[2] != "Z"

  deadline = time.monotonic() + 20
  while runs() and time.monotonic() < deadline:
    time.sleep(0.01)
  assert not runs()


def test_what_does_not_fit_is_refused_if_asked_for(tmp_path):
  queue = write(tmp_path, line("long", minutes=8))
  with pytest.raises(ValueError, match=r"at least 8 minutes .*, got 3"):
    run_queue.run_next(queue, 3, tmp_path, only="long")
  with pytest.raises(SystemExit):
    run_queue.main([f"--queue={queue}"])


def checkpoint(workdir, step, mse):
  directory = workdir / "checkpoints" / str(step)
  (directory / "scores").mkdir(parents=True)
  scores = {} if mse is None else {"mse": mse}
  (directory / "scores" / "metadata").write_text(json.dumps(scores))


def test_an_archive_holds_what_the_run_needs(tmp_path):
  workdir, archive = tmp_path / "run", tmp_path / "state" / "a.tar"
  workdir.mkdir()
  with pytest.raises(ValueError, match="nothing to go on from"):
    run_archive.pack(workdir, archive)
  best = {"best_metric": "mse", "best_mode": "min"}
  (workdir / "config.json").write_text(json.dumps({"checkpoint": best}))
  (workdir / "metrics.jsonl").write_text('{"step": 30}\n')
  (workdir / "images").mkdir()
  for step, mse in ((9, 0.1), (10, 0.1), (20, 0.2), (30, None)):
    checkpoint(workdir, step, mse)
  (workdir / "checkpoints" / "40.orbax-checkpoint-tmp").mkdir()
  archives = run_archive.pack(workdir, archive)
  assert [path.name for path in archives] == ["a.tar", "a.best.tar"]
  with tarfile.open(archive) as tar:
    tops = {"/".join(name.split("/")[:2]) for name in tar.getnames()}
  assert tops == {"checkpoints/30", "config.json", "metrics.jsonl"}
  other = tmp_path / "other"
  assert run_archive.unpack(archive, other) == 30
  assert run_archive.steps_of(other) == [10, 30]
  assert (other / "metrics.jsonl").read_text() == '{"step": 30}\n'
  assert not (other / ".unpacking").exists()
  # A run that is further keeps what it has.
  checkpoint(other, 50, 0.0)
  (other / "metrics.jsonl").write_text('{"step": 50}\n')
  assert run_archive.unpack(archive, other) == 50
  assert (other / "metrics.jsonl").read_text() == '{"step": 50}\n'
  # Its last is its best: there is no second archive, nor an old one.
  assert run_archive.pack(other, archive) == [archive]
  assert not (tmp_path / "state" / "a.best.tar").exists()


def test_a_training_in_pieces_goes_on_in_another_directory(
  tmp_path, monkeypatch
):
  # The second piece need not compile what the first did.
  monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
  state = tmp_path / "state"

  def command(workdir):
    return (
      f"python -m slot_attention_jax.main --config={shlex.quote(CONFIG)} "
      f"--workdir={workdir} --compilation_cache={tmp_path / 'xla'}"
    )

  def piece(workdir, status="open"):
    text = line("run", command(workdir), 444, status, kind="tar")
    queue = write(tmp_path, text)
    # Over before the first call of the step is.
    report = run_queue.run_next(queue, 1e-4, state)
    return report, row_of(queue, "run")

  report, row = piece(tmp_path / "one")
  assert row.status.kind == "at step", report
  assert (row.status.step, row.status.total) == (1, 2)
  assert "Stopped early, at step 1 of 2" in (state / "run.log").read_text()
  before = row.status.minutes
  (tmp_path / "one").rename(tmp_path / "gone")
  report, row = piece(tmp_path / "two", str(row.status))
  assert row.status.kind == "done", report
  assert row.status.minutes >= before
  assert "Training steps 1 to 2" in (state / "run.log").read_text()
  metrics = train.train(
    kill_and_resume._load_config(CONFIG), str(tmp_path / "whole")
  )
  assert rows_of(tmp_path / "two") == rows_of(tmp_path / "whole")
  mse = metrics["tetrominoes_scenes/validation/mse"]
  assert row.result.startswith("tetrominoes_scenes/validation at step 2: ari ")
  assert row.result.endswith(f"mse {mse:.4g}")
  # The score of the first piece still counts.
  assert run_archive.best_step(tmp_path / "whole") == 1
  assert run_archive.best_step(tmp_path / "two") == 1
  assert (state / "run.best.tar").exists()


def test_a_training_that_fails_says_why_and_keeps_its_state(tmp_path):
  code = "import sys; sys.exit('No luck, said the device.')"
  workdir = tmp_path / "run"
  command = f"{python(code)} --workdir={workdir}"
  queue = write(tmp_path, line("run", command, 9, kind="tar"))
  run_queue.run_next(queue, 9, tmp_path / "state")
  status = row_of(queue, "run").status
  assert str(status).endswith("exit status 1: No luck, said the device.")
  # There is a checkpoint, and no update follows: it would be so for ever.
  workdir.mkdir()
  config = {"checkpoint": {"best_metric": "", "best_mode": "max"}}
  (workdir / "config.json").write_text(
    json.dumps(config | {"train": {"num_steps": 9}})
  )
  (workdir / "metrics.jsonl").write_text("")
  checkpoint(workdir, 3, None)
  command = f"true --workdir={workdir}"
  queue = write(tmp_path, line("run", command, 9, kind="tar"))
  report = run_queue.run_next(queue, 9, tmp_path / "state")
  assert report["status"].endswith("no update done after step 3")
  assert (tmp_path / "state" / "run.tar").exists()
