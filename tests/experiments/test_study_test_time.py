"""Tests of the study of T, K and the number of objects at test time."""

import json

import pytest

import slot_attention_jax as sa
from experiments import study_test_time
from slot_attention_jax import evaluate as evaluate_lib
from slot_attention_jax import train

TINY = (
  "multi_dsprites:debug,train.num_steps=1,eval.every_steps=1,"
  "data.resolution=(8, 8),model.num_slots=4,model.slot_size=4,"
  "model.mlp_hidden_size=0,model.encoder_channels=(4,),"
  "model.encoder_kernel_sizes=(3,),model.encoder_strides=(1,),"
  "model.encoder_mlp_sizes=(4,),model.broadcast_size=(8, 8),"
  "model.decoder_channels=(4,),model.decoder_kernel_sizes=(3, 3),"
  "model.decoder_strides=(1, 1),logging.num_images=0"
)

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  path = tmp_path_factory.mktemp("run")
  train.train(sa.load_config(TINY), str(path))
  return path


def run(workdir, capsys, *arguments):
  result = study_test_time.main(
    [
      f"--config={TINY}",
      f"--workdir={workdir}",
      "--num_scenes=8",
      "--batch_size=4",
      *arguments,
    ]
  )
  lines = capsys.readouterr().out.splitlines()
  assert json.loads(lines[-1]) == json.loads(json.dumps(result))
  return result, lines


@pytest.mark.slow
def test_all_combinations_are_evaluated(workdir, capsys):
  result, lines = run(
    workdir, capsys, "--iterations=1", "--slots=4,6", "--objects=2,3"
  )
  rows = result["rows"]
  keys = ("num_objects", "num_slots", "num_iterations")
  assert [tuple(row[k] for k in keys) for row in rows] == [
    (o, k, 1) for o in (2, 3) for k in (4, 6)
  ]
  scores = [row["metrics"]["mse"] for row in rows]
  assert len(set(scores)) == len(rows)
  assert len(lines) == 2 + len(rows) + 1
  assert f"| 3 | 6 | 1 | {rows[3]['metrics']['ari']:.4f} |" in lines[-2]


@pytest.mark.thorough
def test_training_settings_equal_an_evaluation(workdir, capsys):
  result, _ = run(workdir, capsys)
  config = sa.load_config(TINY)
  config.data.scenes.num_eval = 8
  config.eval.split = "test"
  expected = evaluate_lib.evaluate_model(config, str(workdir))
  (row,) = result["rows"]
  got = {f"{row['data']}/{k}": v for k, v in row["metrics"].items()}
  assert got == pytest.approx({k: expected[k] for k in got}, abs=1e-6)
  assert result["step"] == 1


def test_missing_run_raises(tmp_path):
  with pytest.raises(
    FileNotFoundError, match=r"no 'checkpoints' in it\. Train"
  ):
    study_test_time.main([f"--config={TINY}", f"--workdir={tmp_path}"])


@pytest.mark.thorough
def test_figure(workdir, capsys, tmp_path):
  matplotlib = pytest.importorskip("matplotlib")
  figure = tmp_path / "figures" / "study.png"
  run(workdir, capsys, "--iterations=1,2", f"--figure={figure}")
  assert figure.read_bytes().startswith(b"\x89PNG")
  assert matplotlib.get_backend().lower() == "agg"


@pytest.mark.thorough
def test_pretrained_model(capsys):
  result = study_test_time.main(
    ["--pretrained=quickstart", "--num_scenes=8", "--iterations=1,3"]
  )
  assert result["step"] == sa.pretrained_metadata("quickstart").steps
  one, three = (row["metrics"]["mse"] for row in result["rows"])
  assert three < one / 2
  assert "tetrominoes_scenes/test" in capsys.readouterr().out
