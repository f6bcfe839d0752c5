import jax
import numpy as np
import pytest

from slot_attention_jax.data import procedural
from slot_attention_jax.data.procedural import tetrominoes


@pytest.mark.parametrize("resolution", [(35, 35), (70, 105)])
def test_description_is_what_is_seen(resolution):
  family = procedural.Tetrominoes()

  @jax.jit
  @jax.vmap
  def make(key):
    scene = family.sample(key)
    described = family.describe(scene, resolution)
    return family.render(scene, resolution), described, family.targets(scene)

  keys = jax.random.split(jax.random.key(2), 40)
  rendering, described, targets = jax.device_get(make(keys))
  shapes = {name: value.shape for name, value in described.items()}
  scalar = dict.fromkeys(("present", "x", "y", "shape"), (40, 3))
  assert shapes == scalar | {"color": (40, 3, 3)}
  assert described["present"].all()
  assert described["shape"].dtype == np.int32
  ids = family.layout.decode(targets)["shape"]
  np.testing.assert_array_equal(described["shape"], ids)
  for n in range(40):
    for o in range(3):
      at = np.argwhere(rendering.segmentation[n] == o + 1)
      y, x = (at.min(axis=0) + at.max(axis=0) + 1) / 2
      np.testing.assert_allclose(described["y"][n, o], y, atol=1e-4)
      np.testing.assert_allclose(described["x"][n, o], x, atol=1e-4)
      color = rendering.image[n][tuple(at[0])]
      np.testing.assert_allclose(described["color"][n, o], (color + 1) / 2)


@pytest.mark.parametrize(
  "num_objects",
  [*(pytest.param(n, marks=pytest.mark.thorough) for n in (1, 2)), 3],
)
def test_fallback_scene_has_no_overlap(num_objects, monkeypatch):
  # One draw in place of 96, with pieces forced onto each other's place.
  family = procedural.Tetrominoes(num_objects)
  monkeypatch.setattr(tetrominoes.Tetrominoes, "_candidates", 1)
  monkeypatch.setattr(
    tetrominoes.jax.random,
    "randint",
    lambda key, shape, *_: np.zeros(shape, np.int32),
  )
  scene = family.sample(jax.random.key(0))
  rendering = jax.jit(lambda s: family.render(s, (35, 35)))(scene)
  np.testing.assert_array_equal(rendering.visibility, 100)
  seen = np.bincount(np.ravel(rendering.segmentation), minlength=4)[1:]
  assert seen.tolist() == [100] * num_objects + [0] * (3 - num_objects)


def test_fraction_of_samples_without_overlap():
  # What `_candidates` rests on: three pieces are free in 0.145 of the draws.
  shape = jax.random.randint(jax.random.key(0), (20_000, 3), 0, 19)
  room = 35 - 5 * tetrominoes._SHAPE_SIZE[np.asarray(shape)]
  corner = np.random.default_rng(0).integers(0, room + 1)
  cells = tetrominoes._SHAPE_CELLS[np.asarray(shape)]
  cells = corner[:, :, None] + 5 * cells  # [N, 3, 4, 2]
  free = np.ones(len(cells), bool)
  for i, j in ((0, 1), (0, 2), (1, 2)):
    gap = np.abs(cells[:, i, :, None] - cells[:, j, None])
    free &= ~(gap < 5).all(axis=-1).any(axis=(1, 2))
  assert abs(free.mean() - 0.145) < 0.01


@pytest.mark.parametrize("value", [0, 4, 2.0, "2", None])
def test_bad_numbers_of_pieces(value):
  with pytest.raises(ValueError, match=f"integer of 1 to 3 .*got {value}"):
    procedural.Tetrominoes(num_objects=value)


@pytest.mark.parametrize("value", [0, 6, 2.5, None])
def test_bad_steps(value):
  with pytest.raises(ValueError, match=f"integer step of 1 to 5, got {value}"):
    procedural.Tetrominoes(step=value)


def test_bad_resolution():
  family = procedural.Tetrominoes()
  scene = jax.eval_shape(family.sample, jax.random.key(0))
  with pytest.raises(ValueError, match=r"at least \(1, 1\), got \(0, 35\)"):
    jax.eval_shape(lambda s: family.describe(s, (0, 35)), scene)
