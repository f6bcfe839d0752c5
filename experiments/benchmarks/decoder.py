"""Times the decoder's first layer: on slots and positions apart, or together.

The grid that the decoder starts from holds the slot everywhere plus a position
embedding that all slots share. Convolving the two apart replaces a convolution
per slot by one convolution in all and a matrix product per slot. This measures
forward pass and gradients of the whole decoder both ways, alternately, and
checks that both give the same:

  python -m experiments.benchmarks.decoder --batch_size=2
"""

import statistics
import time

import jax
import jax.numpy as jnp
from absl import app, flags
from flax import linen as nn

from slot_attention_jax import models
from slot_attention_jax.modules import convolution, position

_BATCH_SIZE = flags.DEFINE_integer("batch_size", 2, "Images.")
_REPEATS = flags.DEFINE_integer("repeats", 9, "Timed calls of each.")
_PRESETS = flags.DEFINE_list(
  "presets", ["tetrominoes", "multi_dsprites", "clevr"], "Models."
)


def together(model, params, slots):
  """The decoder as the paper words it, on the materialized grid."""
  b, k, d = slots.shape
  x = slots.reshape(b * k, 1, 1, d)
  x = jnp.broadcast_to(x, (b * k, *model.broadcast_size, d))
  x = position.SoftPositionEmbed().apply({"params": params["position"]}, x)
  channels = (*model.decoder_channels, 4)
  sizes = (model.decoder_kernel_sizes, model.decoder_strides)
  for i, (c, size, stride) in enumerate(zip(channels, *sizes, strict=True)):
    x = nn.relu(x) if i else x
    layer = convolution.ConvTranspose(c, size, stride)
    x = layer.apply({"params": params[f"conv_{i}"]}, x)
  x = x.reshape(b, k, *x.shape[1:])
  masks = nn.softmax(x[..., 3:], axis=1)
  return (masks * x[..., :3]).sum(axis=1)


def apart(model, params, slots):
  """The decoder of the package."""
  variables = {"params": {"decoder": params}}
  return model.apply(variables, slots, method="decode")[0]


def main(argv):
  """Prints a Markdown row for each preset."""
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  print(f"{jax.default_backend()}, batch size {_BATCH_SIZE.value}")
  print("| decoder | together | apart | ratio |")
  print("|---|---|---|---|")
  for preset in _PRESETS.value:
    model = models.SlotAttentionAutoEncoder.from_preset(preset)
    shape = (_BATCH_SIZE.value, model.num_slots, model.slot_size)
    slots = jax.random.normal(jax.random.key(0), shape)
    params = model.init(jax.random.key(1), slots, method="decode")
    params = params["params"]["decoder"]
    compiled = {}
    for fun in (together, apart):

      def loss(params, slots, fun=fun, model=model):
        return (fun(model, params, slots) ** 2).mean()

      step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
      compiled[fun] = step.lower(params, slots).compile()
    a, b = (jax.device_get(c(params, slots)) for c in compiled.values())
    difference = jax.tree.map(lambda x, y: abs(x - y).max(), a, b)
    scale = max(abs(x).max() for x in jax.tree.leaves(a))
    if max(jax.tree.leaves(difference)) > 1e-4 * scale:
      raise AssertionError(f"The two differ by {difference}.")
    times = {fun: [] for fun in compiled}
    for _ in range(_REPEATS.value):
      for fun, call in compiled.items():
        start = time.perf_counter()
        jax.block_until_ready(call(params, slots))
        times[fun].append(time.perf_counter() - start)
    old, new = (statistics.median(t) for t in times.values())
    print(
      f"| {preset} | {1e3 * old:.0f} ms | {1e3 * new:.0f} ms "
      f"| {old / new:.2f} |"
    )


if __name__ == "__main__":
  app.run(main)
