"""How well positions can be read from slots, from attention and from masks.

  python -m experiments.study_positions --model=clevr_set

A trained set predictor finds slots in synthetic CLEVR scenes. A small network
is then fitted to the three coordinates of the objects, with one of these as its
input: the slot that has most of an object's pixels, the moments of this slot's
attention (`attention_moments`, by their power), both, or, as a bound, the
moments of the object's true mask. A quarter of the objects is held out. Prints
a Markdown table of how many of these have an error below 1, 0.5 and 0.25, in
the units of CLEVR's coordinates (x and y from -3 to 3), then one line of JSON.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from slot_attention_jax.data import procedural
from slot_attention_jax.modules import attention_moments as moments_lib
from slot_attention_jax.predict import trained_model

DISTANCES = (1.0, 0.5, 0.25)
POWERS = (1, 2, 4, 8)
# Smaller objects have no cell of the attention's grid to themselves.
_FEWEST_PIXELS = 20
_HIDDEN_SIZE = 128
_BATCH_SIZE = 256


def find_objects(
  trained: trained_model.TrainedModel,
  family: Any,
  num_scenes: int,
  num_iterations: int,
  seed: int,
) -> dict[str, np.ndarray]:
  """Slots, moments and coordinates of the objects of scenes.

  Args:
    trained: a set predictor.
    family: the scenes.
    num_scenes: number of scenes.
    num_iterations: T.
    seed: of the scenes and the slot noise.

  Returns:
    Arrays with a row for each visible object: `"coordinates"` [M, 3], `"slots"`
    [M, D], `"mask"` [M, 5], and `"attention^P"` [M, 5] for each power.
  """
  height, width = trained.resolution

  @jax.jit
  def see(key):
    scene_key, slots_key = jax.random.split(key)
    scene = family.sample(scene_key)
    rendering = family.render(scene, (height, width))
    output: Any = trained.model.apply(
      trained.params,
      rendering.image[None],
      num_iterations=num_iterations,
      rngs={"slots": slots_key},
    )
    attention = output.attention[0, -1]
    h, w = grid = trained.model.feature_grid(
      (height, width), attention.shape[-1]
    )
    objects = jnp.arange(1, family.max_objects + 1)
    segmentation = rendering.segmentation.reshape(1, height, width)
    masks = (segmentation == objects[:, None, None]).astype(jnp.float32)
    # The share of each cell that belongs to each object.
    cells = jax.image.resize(masks, (len(masks), h, w), "linear")
    owner = jnp.argmax(cells.reshape(len(masks), -1) @ attention.T, axis=-1)
    found = {
      f"attention^{power}": moments_lib.attention_moments(
        attention, grid, power
      )[owner]
      for power in POWERS
    }
    found["mask"] = moments_lib.attention_moments(
      masks.reshape(len(masks), -1), (height, width)
    )
    found["slots"] = output.slots[0, owner]
    found["coordinates"] = scene.coords
    seen = scene.present & (masks.sum(axis=(1, 2)) >= _FEWEST_PIXELS)
    return found, seen

  rows = []
  for key in jax.random.split(jax.random.key(seed), num_scenes):
    found, seen = see(key)
    rows.append({k: np.asarray(v)[np.asarray(seen)] for k, v in found.items()})
  return {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}


def errors(
  inputs: np.ndarray, coordinates: np.ndarray, num_steps: int, seed: int
) -> np.ndarray:
  """Distances of the held-out objects from where a fitted network has them.

  Args:
    inputs: [M, F].
    coordinates: [M, 3], the targets.
    num_steps: steps of the fit.
    seed: of the network and its batches.

  Returns:
    [M / 4] distances, in the units of the coordinates.
  """
  num_fitted = len(inputs) * 3 // 4
  fitted = inputs[:num_fitted]
  scaled = jnp.asarray(
    (inputs - fitted.mean(axis=0)) / (fitted.std(axis=0) + 1e-6)
  )
  targets = jnp.asarray(coordinates)
  network: Any = nn.Sequential([nn.Dense(_HIDDEN_SIZE), nn.relu, nn.Dense(3)])
  rate = optax.cosine_decay_schedule(3e-3, num_steps)
  optimizer = optax.adamw(rate, weight_decay=0.01)

  @jax.jit
  def fit(key):
    init_key, batches_key = jax.random.split(key)
    params = network.init(init_key, scaled[:1])

    def step(state, key):
      params, optimizer_state = state
      batch = jax.random.randint(key, (_BATCH_SIZE,), 0, num_fitted)
      gradient = jax.grad(
        lambda p: jnp.abs(
          network.apply(p, scaled[batch]) - targets[batch]
        ).mean()
      )(params)
      updates, optimizer_state = optimizer.update(
        gradient, optimizer_state, params
      )
      return (optax.apply_updates(params, updates), optimizer_state), None

    state = params, optimizer.init(params)
    keys = jax.random.split(batches_key, num_steps)
    (params, _), _ = jax.lax.scan(step, state, keys)
    return network.apply(params, scaled[num_fitted:])

  found = np.asarray(fit(jax.random.key(seed)))
  return np.linalg.norm(found - coordinates[num_fitted:], axis=-1)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
  """Prints a table, then JSON, which it returns."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--model", default="clevr_set", help="NAME, FILE or RUN")
  parser.add_argument("--num_scenes", type=int, default=800)
  parser.add_argument("--iterations", type=int, default=7, help="T")
  parser.add_argument("--num_steps", type=int, default=3_000, help="of a fit")
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args(argv)
  for name in ("num_scenes", "iterations", "num_steps"):
    if getattr(arguments, name) < 1:
      parser.error(f"Expected --{name} of at least 1.")
  trained = trained_model.load(arguments.model)
  if trained.layout is None or not trained.data.startswith("clevr_scenes"):
    parser.error(
      "Expected --model to be a set predictor of synthetic CLEVR scenes, got "
      f"{arguments.model}, of {trained.data}. Try clevr_set."
    )
  family = procedural.Clevr(frame=(320, 480))
  found = find_objects(
    trained,
    family,
    arguments.num_scenes,
    arguments.iterations,
    arguments.seed,
  )
  coordinates = found.pop("coordinates")
  slots = found["slots"]
  names = [f"attention^{power}" for power in POWERS]
  inputs = {"slots": slots} | {name: found[name] for name in names}
  inputs |= {
    f"slots + {name}": np.concatenate([slots, found[name]], axis=-1)
    for name in names
  }
  inputs["mask"] = found["mask"]
  print("| input | " + " | ".join(f"below {d:g}" for d in DISTANCES) + " |")
  print("|---" * (1 + len(DISTANCES)) + "|")
  rows = {}
  for name, values in inputs.items():
    far = errors(values, coordinates, arguments.num_steps, arguments.seed)
    rows[name] = [float((far < d).mean()) for d in DISTANCES]
    cells = [f"{100 * x:.1f} %" for x in rows[name]]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
  result = {
    **vars(arguments),
    "data": family.name,
    "num_objects": len(coordinates),
    "rows": rows,
  }
  print(json.dumps(result))
  return result


if __name__ == "__main__":
  main()
