"""Tests of the way from a run to a file of weights and its card."""

import dataclasses
import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import slot_attention_jax as sa
from slot_attention_jax import export_weights, tasks
from slot_attention_jax.data import types
from slot_attention_jax.pretrained import model_card, weights_file
from slot_attention_jax.runtime import files
from slot_attention_jax.training import (
  checkpoints,
  metadata,
  weights_provenance,
)
from slot_attention_jax.training import (
  state as state_lib,
)

TINY = (
  "train.num_steps=4,model.num_slots=3,model.num_iterations=2,"
  "model.slot_size=8,model.mlp_hidden_size=0,model.encoder_channels=(4,),"
  "model.encoder_kernel_sizes=(3,),model.encoder_strides=(2,),"
  "model.encoder_mlp_sizes=(4,),model.decoder_channels=(),"
  "model.decoder_kernel_sizes=(3,),model.decoder_strides=(2,),"
  "model.broadcast_size=(4, 4),data.resolution=(8, 8),model.unroll=1,"
  "checkpoint.best_metric=mse,checkpoint.best_mode=min"
)
ADVICE = "--mode=evaluate"


def info(name="toys", split="train"):
  return types.DatasetInfo(
    name, split, (8, 8, 3), None, types.CLEVR_LAYOUT, 3, True, True
  )


def write_run(path, task):
  """Writes what a training of 4 steps and an evaluation write.

  Checkpoints are of steps 2 and 4; that of step 2 is the best.
  """
  config = sa.load_config(f"quickstart:{TINY},task={task}")
  objective = tasks.create_task(config, info())
  optimizer = optax.sgd(1.0)
  with checkpoints.Checkpointer(
    path / "checkpoints", keep=2, best_metric="mse", best_mode="min"
  ) as checkpointer:
    for step in (2, 4):
      rng = np.random.default_rng(step)
      params = jax.tree.map(
        lambda x, rng=rng: jnp.asarray(rng.normal(size=x.shape), jnp.float32),
        jax.eval_shape(objective.init, jax.random.key(0)),
      )
      state = state_lib.create(params, optimizer, jax.random.key(0))
      checkpointer.save(
        state.replace(step=jnp.int32(step)),
        files.jsonable(config.to_dict()),
        {"mse": float(step)},
      )
  metadata.write_metadata(
    path, config.to_dict(), info(), "--config=configs/toys.py"
  )
  rows = [
    {"step": 1, "time": "2026-01-02T23:58:00.000+00:00", "seconds": 9.0},
    {"step": 2, "time": "2026-01-02T23:59:00.000+00:00", "seconds": 60.0},
    {"step": 4, "time": "2026-01-03T00:01:30.000+00:00", "seconds": 210.0},
  ]
  lines = "".join(json.dumps(row) + "\n" for row in rows)
  (path / "metrics.jsonl").write_text(lines)
  evaluation = {
    "step": 4,
    "num_slots": 3,
    "num_iterations": 5,
    "num_examples": 6,
    "metrics": {"toys/test/mse": 0.5, "toys/test/ap_inf": "nan"},
  }
  files.write_json(path / "evaluation.json", evaluation)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """Directories of two runs, by task."""
  found = {}
  for task in ("discovery", "set_prediction"):
    found[task] = tmp_path_factory.mktemp(task)
    write_run(found[task], task)
  return found


@pytest.fixture
def run(runs, tmp_path):
  """A copy that a test may spoil."""
  return shutil.copytree(runs["discovery"], tmp_path / "run")


def export(run, capsys, *arguments):
  """Runs the command line; returns its report."""
  command = [f"--workdir={run}", "--name=toys", *arguments]
  export_weights.main(command)
  return json.loads(capsys.readouterr().out.splitlines()[-1])


def error(run, capsys, *arguments):
  """Runs the command line; returns the message that it ends with."""
  with pytest.raises(SystemExit) as ended:
    export(run, capsys, *arguments)
  assert ended.value.code == 2
  text = capsys.readouterr().err
  assert "Traceback" not in text
  return text


def edit(path, **changes):
  content = json.loads(path.read_text()) | changes
  path.write_text(json.dumps(content))


@pytest.mark.parametrize("task", ["discovery", "set_prediction"])
def test_the_file_holds_the_checkpoint_bit_for_bit(
  task, runs, tmp_path, capsys
):
  report = export(runs[task], capsys, f"--output_dir={tmp_path}")
  assert report["weights"] == str(tmp_path / "toys.safetensors")
  model, params = sa.load_weights(report["weights"])
  with checkpoints.Checkpointer(runs[task] / "checkpoints") as checkpointer:
    saved = checkpointer.restore_params()
  assert jax.tree.structure(params) == jax.tree.structure(saved)
  for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(saved), strict=True):
    np.testing.assert_array_equal(x, y)
  assert report["parameters"] == sum(x.size for x in jax.tree.leaves(saved))
  config = sa.load_config(f"quickstart:{TINY},task={task}")
  assert model == tasks.create_task(config, info()).model
  metadata = sa.read_weights_metadata(report["weights"])
  layout = types.CLEVR_LAYOUT if task == "set_prediction" else None
  assert (metadata.task, metadata.layout) == (task, layout)


def test_metadata_is_that_of_the_run(run, capsys):
  report = export(run, capsys)
  metadata = sa.read_weights_metadata(run / "weights" / "toys.safetensors")
  assert metadata.resolution == (8, 8)
  assert metadata.command == "--config=configs/toys.py"
  assert (metadata.data, metadata.synthetic_scenes, metadata.seed) == (
    "toys",
    True,
    0,
  )
  assert (metadata.steps, metadata.planned_steps) == (4, 4)
  assert metadata.minutes == 3.5
  assert metadata.date == "2026-01-03"
  assert metadata.hardware.startswith("4 x ")
  assert metadata.metrics == {"toys/test/mse": 0.5, "toys/test/ap_inf": "nan"}
  assert metadata.evaluation["num_iterations"] == 5
  assert metadata.versions["jax"] == jax.__version__
  assert metadata.license == "Apache-2.0"
  card = (run / "weights" / "toys.md").read_text()
  assert card == model_card.model_card("toys", metadata)
  assert report["metrics"] == metadata.metrics
  assert sorted(p.name for p in (run / "weights").iterdir()) == [
    "toys.md",
    "toys.safetensors",
  ]


def test_flags_fill_in_what_the_run_lacks(run, capsys):
  edit(run / "metadata.json", recipe="")
  export(
    run,
    capsys,
    "--recipe=--config=configs/other.py",
    "--hardware=an abacus",
    "--license=CC0-1.0",
    "--notes=The better of two.",
  )
  metadata = sa.read_weights_metadata(run / "weights" / "toys.safetensors")
  assert metadata.command == "--config=configs/other.py"
  assert metadata.hardware == "an abacus"
  assert metadata.license == "CC0-1.0"
  assert metadata.notes == "The better of two."


@pytest.mark.thorough
def test_the_best_checkpoint_is_exported_with_its_own_evaluation(run, capsys):
  text = error(run, capsys, "--checkpoint=best")
  assert "best checkpoint, of step 2, got one of step 4 " in text
  assert "--config.eval.checkpoint=best" in text
  edit(run / "evaluation.json", step=2)
  report = export(run, capsys, "--checkpoint=best")
  metadata = sa.read_weights_metadata(report["weights"])
  assert (report["updates"], metadata.steps, metadata.minutes) == (2, 2, 1.0)
  _, params = sa.load_weights(report["weights"])
  with checkpoints.Checkpointer(run / "checkpoints") as checkpointer:
    saved = checkpointer.restore_params(step=2)
  jax.tree.map(np.testing.assert_array_equal, params, saved)


@pytest.mark.parametrize(
  ("change", "expected"),
  [
    ({"parameters_sha256": "0" * 64}, "other parameters"),
    # Of version 0.1, with the step of the weights.
    ({"protocol": {"model": "pretrained quickstart"}}, "pretrained quickstart"),
  ],
)
def test_an_evaluation_of_other_parameters_is_refused(
  change, expected, run, capsys
):
  with checkpoints.Checkpointer(run / "checkpoints") as checkpointer:
    params = checkpointer.restore_params()
  path = run / "evaluation.json"
  edit(path, parameters_sha256=weights_file.parameters_checksum(params))
  export(run, capsys)
  shutil.rmtree(run / "weights")
  content = json.loads(path.read_text())
  content.pop("parameters_sha256")
  path.write_text(json.dumps(content | change))
  assert expected in error(run, capsys)
  assert not (run / "weights").exists()


def test_metadata_of_another_seed_are_refused(run, capsys):
  edit(run / "metadata.json", seed=7)
  assert "with seed 0, got one with seed 7" in error(run, capsys)


def test_the_card_tells_what_changed_in_the_course_of_a_run(run, capsys):
  change = {"step": 3, "key": "optim.b1", "old": 0.9, "new": 0.8}
  edit(run / "metadata.json", changes=[change, change | {"step": 4}])
  export(run, capsys, "--notes=Mine.")
  metadata = sa.read_weights_metadata(run / "weights" / "toys.safetensors")
  changed = "At step 3, optim.b1 was changed from 0.9 to 0.8."
  assert metadata.notes == f"Mine. {changed}"


@pytest.mark.parametrize(
  ("name", "shown"),
  [
    ("quickstart", "quickstart"),
    ("hf://owner/name", "hf://owner/name"),
    ("/home/me/my runs/small", "small"),
    ("~/small.safetensors", "small.safetensors"),
  ],
)
def test_the_card_tells_the_initial_weights_but_not_their_place(name, shown):
  config = {"train": {"initial_weights": name}}
  text = weights_provenance._notes({}, config, 4)
  assert text == f"The training started from the weights {shown}."
  for quote in ("", "'", '"'):
    flag = "--config.train.initial_weights={0}{1}{0} --config.seed=1"
    command = weights_provenance._without_directory(
      flag.format(quote, name), config
    )
    assert command == flag.format(quote, shown)


def test_the_card_tells_the_step_and_digest_of_the_initial_weights():
  record = {"source": "/runs/a", "step": 20_000, "parameters_sha256": "1a2b"}
  config = {"train": {"initial_weights": "/runs/a"}}
  text = weights_provenance._notes({"initial_weights": record}, config, 4)
  assert text == (
    "The training started from the weights a after 20000 steps "
    "(SHA-256 of the parameters: 1a2b)."
  )


def test_a_run_of_random_initial_weights_has_no_note_of_them():
  for train in ({}, {"initial_weights": ""}):
    config = {"train": train}
    assert not weights_provenance._notes({}, config, 4)
    command = "--config=quickstart --config.train.initial_weights="
    assert weights_provenance._without_directory(command, config) == command


def test_a_run_without_evaluation_is_an_error(run, capsys):
  (run / "evaluation.json").unlink()
  assert re.search(r"evaluation\.json.*--mode=evaluate", error(run, capsys))
  assert not (run / "weights").exists()


@pytest.mark.parametrize(
  "name", ["metadata.json", "evaluation.json", "config.json"]
)
def test_a_damaged_file_of_the_run_is_named(name, run, capsys):
  (run / name).write_text('{"step": ')
  assert re.search(rf"run.{name} to be JSON.*damaged", error(run, capsys))
  (run / name).write_text("{}")
  assert re.search(rf"run.{name} to have the keys", error(run, capsys))


@pytest.mark.parametrize(
  ("name", "key"),
  [
    ("config.json", "checkpoint"),
    ("evaluation.json", "metrics"),
    ("evaluation.json", "protocol"),
    ("metadata.json", "versions"),
    ("metadata.json", "initial_weights"),
  ],
)
@pytest.mark.parametrize("value", [3, [], None, "text"])
def test_a_value_in_place_of_a_group_is_named(name, key, value, run, capsys):
  edit(run / name, **{key: value})
  message = f"{run / name} to have an object as {key!r}, got {value!r}. "
  assert message in error(run, capsys)


def test_a_run_without_a_command_is_an_error(run, capsys):
  edit(run / "metadata.json", recipe="")
  assert "Expected the key 'recipe'" in error(run, capsys)


def test_a_command_is_its_flags_alone(run, capsys):
  edit(run / "metadata.json", recipe="python -m slot_attention_jax.main")
  assert "flags alone, --config=... first, got 'python" in error(run, capsys)


def test_a_set_predictor_without_a_layout_is_an_error(runs, tmp_path, capsys):
  run = shutil.copytree(runs["set_prediction"], tmp_path / "run")
  edit(run / "metadata.json", layout=None)
  assert "Expected the layout" in error(run, capsys)


def test_a_missing_run_is_an_error(tmp_path, capsys):
  assert "Expected a trained run" in error(tmp_path, capsys)


@pytest.mark.parametrize("name", ["", "../toys", "Toys", "toys.md"])
def test_names_must_be_file_names(name, run):
  with pytest.raises(ValueError, match=r"lower-case letters.*got "):
    export_weights.export_weights(str(run), name, str(run / "weights"))


@pytest.mark.parametrize(("value", "kept"), [(False, []), (2, ["of_once"])])
def test_settings_of_other_versions_are_left_out_where_they_are_off(
  value, kept
):
  model = {"num_slots": 3, "background_grid": 0, "of_once": value}
  settings = weights_provenance._settings(model)
  assert [*settings] == ["num_slots", "background_grid", *kept]


def test_a_run_of_an_earlier_version_is_exported(tmp_path, capsys):
  compat = pathlib.Path(__file__).parent / "testdata" / "compat"
  run = shutil.copytree(compat / "discovery_run", tmp_path / "run")
  report = export(run, capsys)
  # Made by the earlier version, from the same checkpoint.
  expected = compat / "weights.safetensors"
  metadata = sa.read_weights_metadata(report["weights"])
  assert metadata == dataclasses.replace(
    sa.read_weights_metadata(expected), notes=metadata.notes
  )
  (model, params), (old_model, old_params) = (
    sa.load_weights(path) for path in (report["weights"], expected)
  )
  assert model == old_model
  jax.tree.map(np.testing.assert_array_equal, params, old_params)
