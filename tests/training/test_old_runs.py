"""Runs of version 0.1 are resumed and evaluated, and have a best checkpoint."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import pytest

from slot_attention_jax import evaluate, train
from slot_attention_jax.config import aliases, load
from slot_attention_jax.training import checkpoints

# Two steps of object discovery on synthetic tetrominoes, then an evaluation.
OLD_RUN = pathlib.Path(__file__).parents[1] / "testdata/compat/discovery_run"

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.fixture
def workdir(tmp_path):
  return shutil.copytree(OLD_RUN, tmp_path / OLD_RUN.name)


def config_of_old_run():
  metadata = json.loads((OLD_RUN / "metadata.json").read_text())
  command = aliases.update_command(metadata["recipe"])
  config = load.load_config(command.removeprefix("--config="))
  return config.copy_and_resolve_references()


@pytest.mark.thorough
def test_an_old_best_checkpoint_is_evaluated_as_it_was(workdir):
  expected = json.loads((workdir / "evaluation.json").read_text())
  config = config_of_old_run()
  config.eval.checkpoint = "best"
  evaluate.evaluate_model(config, str(workdir))
  actual = json.loads((workdir / "evaluation.json").read_text())
  assert actual["step"] == expected["step"] == 2
  for key in ("metrics", "standard_errors"):
    assert actual[key] == pytest.approx(expected[key], rel=1e-4, abs=1e-5)


@pytest.mark.thorough
def test_an_old_run_is_resumed(workdir):
  config = config_of_old_run()
  config.train.num_steps = 3
  metrics = train.train(config, str(workdir), resume_changed=True)
  assert metrics["tetrominoes_scenes/validation/mse"] < 1.2
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(line)["step"] for line in lines] == [1, 2, 2, 3, 3]
  assert lines[:3] == (OLD_RUN / "metrics.jsonl").read_text().splitlines()


def test_an_old_run_is_not_resumed_with_another_seed(workdir):
  config = config_of_old_run()
  config.seed = 1
  with pytest.raises(ValueError, match=r"seed +0 +1\n\nTo go on"):
    train.train(config, str(workdir))
  for path in OLD_RUN.glob("*.json*"):
    assert (workdir / path.name).read_text() == path.read_text()


@pytest.mark.parametrize(
  ("fg_ari", "kept", "best"), [(-0.5, [2, 4], 2), (0.5, [4], 4)]
)
def test_old_metrics_decide_what_is_best(workdir, fg_ari, kept, best):
  options = {"keep": 1, "best_metric": "fg_ari", "best_mode": "max"}
  with checkpoints.Checkpointer(workdir / "checkpoints") as checkpointer:
    assert checkpointer.best_step() is None  # No metric is named.
    params = checkpointer.restore_params()
    assert sum(x.size for x in jax.tree.leaves(params)) == 7236
  state = checkpoints.state_lib.TrainState(
    step=jnp.int32(4), params=params, opt_state={}, key=jax.random.key(0)
  )
  with checkpoints.Checkpointer(
    workdir / "checkpoints", **options
  ) as checkpointer:
    assert checkpointer.best_step() == 2
    assert checkpointer.save(state, {}, {"fg_ari": fg_ari, "mse": 0.1})
    assert checkpointer.best_step() == best
  found = (workdir / "checkpoints").iterdir()
  assert sorted(int(path.name) for path in found) == kept


def test_the_directory_of_an_old_run_is_its_config(workdir):
  config = load.load_config(workdir).to_dict()
  expected = config_of_old_run().to_dict()
  assert expected["train"].pop("quick_compilation")  # The variant's since then.
  assert not config["train"].pop("quick_compilation")
  assert config == expected
