"""The guide to one's own data: its code runs as it stands."""

import json
import pathlib
import re

import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax import data, train
from slot_attention_jax.data import from_config

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "own_data.md"
# Set in the config of the guide's example, which is the quickstart's.
TINY = (
  "debug,model.encoder_channels=(4,),model.encoder_kernel_sizes=(6,),"
  "model.encoder_strides=(2,),model.encoder_mlp_sizes=(8,),"
  "model.slot_size=8,model.mlp_hidden_size=8,model.decoder_channels=(),"
  "model.decoder_kernel_sizes=(6,),model.decoder_strides=(2,)"
)


@pytest.fixture
def scenes(tmp_path, monkeypatch):
  """A directory with `scenes.npz`, which is the current one."""
  rng = np.random.default_rng(0)
  segments = np.zeros((16, 28, 28), np.uint8)
  segments[:, 4:12, 4:12], segments[:, 16:24, 8:20] = 1, 2
  colors = rng.integers(0, 256, (16, 3, 3), np.uint8)
  images = np.take_along_axis(
    colors[:, :, None, :], segments.reshape(16, -1)[:, :, None, None], axis=1
  ).reshape(16, 28, 28, 3)
  np.savez(tmp_path / "scenes.npz", images=images, segments=segments)
  monkeypatch.chdir(tmp_path)
  yield tmp_path
  from_config._REGISTERED.clear()


@pytest.mark.thorough
def test_the_guide_s_example_trains_on_your_own_data(scenes, monkeypatch):
  (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
  statements = [line for line in code.splitlines() if line.strip()]
  assert len(statements) < 40
  load = sa.load_config
  monkeypatch.setattr(sa, "load_config", lambda name: load(f"{name}:{TINY}"))
  exec(compile(code, str(GUIDE), "exec"), {})
  rows = [
    json.loads(line)
    for line in (scenes / "runs/mine/metrics.jsonl").read_text().splitlines()
  ]
  last = rows[-1]
  assert {f"mine/validation/{n}" for n in ("mse", "ari", "fg_ari")} <= set(last)
  about = json.loads((scenes / "runs/mine/metadata.json").read_text())
  assert (about["data"], about["num_examples"]) == ("mine", 8)
  assert about["own_scenes"] is False


def test_built_in_names_cannot_be_registered():
  with pytest.raises(ValueError, match="does not use, got 'clevr'"):
    data.register("clevr", lambda *a, **k: None)


@pytest.mark.slow
def test_a_folder_trains_without_code(tmp_path):
  from PIL import Image

  for i in range(16):
    path = tmp_path / "pictures" / f"{i}.jpg"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((40, 60, 3), 15 * i, np.uint8)).save(path)
  config = sa.load_config(
    f"quickstart:data.name=folder,data.data_dir={tmp_path / 'pictures'},"
    f"data.cache_dir={tmp_path / 'cache'},checkpoint.best_metric=mse,"
    f"checkpoint.best_mode=min,{TINY}"
  )
  metrics = train.train(config, str(tmp_path / "run"))
  assert set(metrics) == {"folder:pictures/validation/mse"}
  with pytest.raises(ValueError, match=r"data_dir to name the folder"):
    train.train(
      sa.load_config(f"quickstart:data.name=folder,{TINY}"), str(tmp_path / "x")
    )
