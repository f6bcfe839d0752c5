import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from slot_attention_jax import interop
from slot_attention_jax.modules import attention, slot_attention

GOLDEN = pathlib.Path(__file__).parents[1] / "testdata" / "golden"

# Small, and no two sizes alike: B, N, F, K, D and the MLP's width.
B, N, F, K, D, M = 2, 7, 6, 3, 4, 5
MODULE = slot_attention.SlotAttention(
  num_slots=K, num_iterations=2, slot_size=D, mlp_hidden_size=M
)


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


INPUTS = normal(0, B, N, F)
NOISE = normal(1, B, K, D)


def shapes(module, inputs, **kwargs):
  rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
  return jax.eval_shape(
    lambda x: module.init_with_output(rngs, x, **kwargs), inputs
  )


@pytest.fixture(scope="module")
def params():
  """Random values for all parameters: biases and norms matter too."""
  tree = shapes(MODULE, INPUTS)[1]
  rng = np.random.default_rng(2)
  return jax.tree.map(
    lambda p: rng.normal(size=p.shape, scale=0.7).astype(np.float32), tree
  )


@pytest.fixture(scope="module")
def apply(params):
  """The module, compiled once for each set of shapes and options."""
  jitted = jax.jit(
    lambda inputs, kwargs, rngs, options: MODULE.apply(
      params, inputs, rngs=rngs, **dict(options), **kwargs
    ),
    static_argnums=3,
  )

  def call(inputs, rngs=None, num_slots=None, num_iterations=None, **kwargs):
    options = {"num_slots": num_slots, "num_iterations": num_iterations}
    return jitted(inputs, kwargs, rngs or {}, tuple(options.items()))

  return call


# A NumPy reference, written from Algorithm 1 and Keras' documentation.


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def layer_norm(x, p):
  centered = x - x.mean(axis=-1, keepdims=True)
  variance = (centered**2).mean(axis=-1, keepdims=True)
  return centered / np.sqrt(variance + 1e-3) * p["scale"] + p["bias"]


def gru(h, x, p):
  d = h.shape[-1]
  w, u, b, c = (
    p[k] for k in ("kernel", "recurrent_kernel", "bias", "recurrent_bias")
  )
  z, r, n = (slice(i * d, (i + 1) * d) for i in range(3))
  update = sigmoid(x @ w[:, z] + h @ u[:, z] + b[z])
  reset = sigmoid(x @ w[:, r] + h @ u[:, r] + b[r])
  candidate = np.tanh(x @ w[:, n] + b[n] + reset * (h @ u[:, n] + c))
  return update * h + (1 - update) * candidate


def reference(
  params,
  inputs,
  slots,
  num_iterations,
  epsilon=1e-8,
  normalization="mean",
  slot_update="gru",
):
  """One example: inputs [N, F], slots [K, D] -> slots, attention [T, K, N]."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
  x = layer_norm(inputs.astype(np.float64), p["norm_inputs"])
  keys, values = x @ p["project_k"]["kernel"], x @ p["project_v"]["kernel"]
  history = []
  for _ in range(num_iterations):
    q = layer_norm(slots, p["norm_slots"]) @ p["project_q"]["kernel"]
    logits = q @ keys.T / np.sqrt(slots.shape[-1])
    attention = np.exp(logits) / np.exp(logits).sum(axis=0)
    history.append(attention)
    weights = attention + epsilon
    if normalization == "mean":
      weights = weights / weights.sum(axis=1, keepdims=True)
    elif normalization == "scaled_sum":
      weights = weights * K / len(inputs)
    updates = weights @ values
    if slot_update == "gru":
      slots = gru(slots, updates, p["gru"])
    else:
      slots = updates + slots * (slot_update == "residual")
    hidden = layer_norm(slots, p["norm_mlp"])
    hidden = hidden @ p["mlp_0"]["kernel"] + p["mlp_0"]["bias"]
    slots = slots + (
      np.maximum(hidden, 0) @ p["mlp_1"]["kernel"] + p["mlp_1"]["bias"]
    )
  return slots, np.stack(history)


def start(params, noise):
  p = params["params"]
  return p["slots_mu"] + np.exp(p["slots_log_sigma"]) * noise


# Golden values of the reference implementation.


@pytest.mark.parametrize(
  "num_iterations",
  [
    3,
    5,
    *(pytest.param(t, marks=pytest.mark.thorough) for t in (1, 2)),
  ],
)
def test_golden_slots_and_gradients(num_iterations, equal_to_reference):
  with np.load(GOLDEN / "slot_attention.npz") as file:
    golden = {k: file[k] for k in file.files}
  weights = {k: v for k, v in golden.items() if k.startswith("w/")}
  params = interop.params_from_tensorflow(weights)
  module = slot_attention.SlotAttention(num_slots=5)

  @jax.jit
  def run(inputs):
    def loss(inputs):
      slots, _ = module.apply(
        params,
        inputs,
        noise=golden["noise"],
        num_iterations=num_iterations,
      )
      return (slots**2).sum(), slots

    return jax.grad(loss, has_aux=True)(inputs)

  gradients, slots = run(golden["inputs"])
  equal_to_reference(
    f"slots of the bare module, T = {num_iterations}",
    slots,
    golden[f"slots_T{num_iterations}"],
    1e-5,
  )
  expected = golden[f"grad_inputs_T{num_iterations}"]
  scale = np.abs(expected).max()
  assert scale > 1e-3
  equal_to_reference(
    "gradient of the bare module's inputs, relative to the largest, T = "
    f"{num_iterations}",
    gradients,
    expected,
    1e-5,
    scale=scale,
  )


# Algorithm 1.


def test_matches_algorithm_1_in_numpy(params, apply):
  slots, attention = apply(INPUTS, noise=NOISE)
  assert slots.shape == (B, K, D)
  assert attention.shape == (B, 2, K, N)
  for b in range(B):
    expected = reference(params, INPUTS[b], start(params, NOISE[b])[0], 2)
    np.testing.assert_allclose(slots[b], expected[0], atol=5e-6)
    np.testing.assert_allclose(attention[b], expected[1], atol=5e-6)


def test_layer_norm_epsilon_is_that_of_keras(params, apply):
  # The variance of these inputs is far below Keras' epsilon of 1e-3 and far
  # above Flax' default of 1e-6.
  inputs = 0.01 * INPUTS
  slots, _ = apply(inputs, noise=NOISE)
  expected, _ = reference(params, inputs[0], start(params, NOISE[0])[0], 2)
  np.testing.assert_allclose(slots[0], expected, atol=5e-6)
  assert np.abs(apply(INPUTS, noise=NOISE)[0] - slots).max() > 0.05


def test_epsilon_is_added_before_the_normalization(params):
  module = MODULE.clone(epsilon=0.5)
  slots, attention = jax.jit(module.apply)(params, INPUTS, noise=NOISE)
  expected = reference(params, INPUTS[0], start(params, NOISE[0])[0], 2, 0.5)
  np.testing.assert_allclose(slots[0], expected[0], atol=5e-6)
  # It is no part of the attention that is returned.
  np.testing.assert_allclose(attention[0], expected[1], atol=5e-6)


def test_gru_matches_numpy():
  module = slot_attention.GRUCell(D)
  rng = np.random.default_rng(0)
  h, x = normal(3, B, K, D), normal(4, B, K, F)
  tree = jax.eval_shape(module.init, jax.random.key(0), h, x)
  params = jax.tree.map(
    lambda p: rng.normal(size=p.shape).astype(np.float32), tree
  )
  assert jax.tree.map(np.shape, params["params"]) == {
    "kernel": (F, 3 * D),
    "recurrent_kernel": (D, 3 * D),
    "bias": (3 * D,),
    "recurrent_bias": (D,),
  }
  np.testing.assert_allclose(
    jax.jit(module.apply)(params, h, x),
    gru(h, x, params["params"]),
    atol=2e-6,
  )


# Symmetries.


def test_result_is_invariant_to_the_order_of_inputs(apply):
  slots, attention = apply(INPUTS, noise=NOISE)
  order = np.random.default_rng(0).permutation(N)
  got, permuted = apply(INPUTS[:, order], noise=NOISE)
  np.testing.assert_allclose(got, slots, atol=2e-6)
  np.testing.assert_allclose(permuted, attention[..., order], atol=2e-6)


def test_result_is_equivariant_to_the_order_of_slots(apply):
  slots, attention = apply(INPUTS, noise=NOISE)
  assert np.abs(slots[:, 0] - slots[:, 1]).max() > 0.01
  order = np.array([2, 0, 1])
  got, permuted = apply(INPUTS, noise=NOISE[:, order])
  np.testing.assert_allclose(got, slots[:, order], atol=2e-6)
  np.testing.assert_allclose(permuted, attention[:, :, order], atol=2e-6)


def test_attention_sums_to_1_over_the_slots(apply):
  _, attention = apply(INPUTS, noise=NOISE)
  assert attention.dtype == jnp.float32
  assert attention.min() >= 0
  np.testing.assert_allclose(attention.sum(axis=2), 1, atol=1e-6)


# Options of a call.


def test_other_numbers_of_slots_and_iterations_with_the_same_params(
  params, apply
):
  noise = normal(5, B, 6, D)
  slots, attention = apply(INPUTS, noise=noise, num_iterations=5)
  assert attention.shape == (B, 5, 6, N)
  expected = reference(params, INPUTS[1], start(params, noise[1])[0], 5)
  np.testing.assert_allclose(slots[1], expected[0], atol=1e-5)
  np.testing.assert_allclose(attention[1], expected[1], atol=1e-5)
  drawn, attention = jax.eval_shape(
    lambda x: apply(x, {"slots": jax.random.key(0)}, num_slots=8), INPUTS
  )
  assert drawn.shape == (B, 8, D)
  assert attention.shape == (B, 2, 8, N)


@pytest.mark.thorough
def test_unroll_changes_nothing(params, apply):
  expected = apply(INPUTS, noise=NOISE)
  got = jax.jit(MODULE.clone(unroll=2).apply)(params, INPUTS, noise=NOISE)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, expected
  )


def test_initial_slots_come_from_the_slots_stream(params, apply):
  a, b, c = (
    apply(INPUTS, {"slots": jax.random.key(seed)})[0] for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(a, b)
  assert np.abs(a - c).max() > 0.01
  # With the update gate shut and no MLP the slots stay what they were at first,
  # mu + sigma * standard normal, one sample per slot.
  p = params["params"]
  shut = {k: v for k, v in p.items() if "mlp" not in k}
  shut["gru"] = p["gru"] | {"bias": np.full(3 * D, 1000, np.float32)}
  drawn, _ = jax.jit(MODULE.clone(mlp_hidden_size=None).apply)(
    {"params": shut}, np.zeros((500, 2, F)), rngs={"slots": jax.random.key(0)}
  )
  assert drawn.shape == (500, K, D)
  sigma = np.exp(p["slots_log_sigma"][0, 0])
  z = (np.asarray(drawn) - p["slots_mu"]) / sigma
  assert np.abs(z.mean(axis=0)).max() < 5 / np.sqrt(500)
  np.testing.assert_allclose(z.std(axis=(0, 1)), 1, atol=0.1)
  correlation = np.corrcoef(z.reshape(500, K * D).T) - np.eye(K * D)
  assert np.abs(correlation).max() < 0.25


def test_noise_and_initial_slots(params, apply):
  expected = apply(INPUTS, noise=NOISE)
  initial = start(params, NOISE)
  got = apply(INPUTS, initial_slots=initial)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), got, expected
  )


@pytest.mark.thorough
def test_initial_slots_leave_mu_and_sigma_out(params):
  def total(params):
    slots, _ = MODULE.apply(params, INPUTS, initial_slots=NOISE)
    return slots.sum()

  gradients = jax.jit(jax.grad(total))(params)["params"]
  np.testing.assert_array_equal(gradients["slots_mu"], 0)
  np.testing.assert_array_equal(gradients["slots_log_sigma"], 0)
  assert np.abs(gradients["project_v"]["kernel"]).max() > 0.01


# Masks.


def test_masked_inputs_are_as_if_dropped(apply):
  keep = np.array([0, 2, 3, 6])
  mask = np.isin(np.arange(N), keep)
  padded = np.where(mask[:, None], INPUTS, np.nan)
  slots, attention = apply(INPUTS[:, keep], noise=NOISE)
  for m in (mask, mask.astype(np.float32)):
    got, masked = apply(padded, noise=NOISE, mask=np.stack([m] * B))
    np.testing.assert_allclose(got, slots, atol=2e-6)
    np.testing.assert_allclose(masked[..., keep], attention, atol=2e-6)
    np.testing.assert_array_equal(masked[..., ~mask], 0)


@pytest.mark.thorough
def test_masked_inputs_affect_neither_outputs_nor_gradients(params):
  mask = np.ones((B, N), bool)
  mask[0] = False
  mask[1, 3] = False

  def total(params, inputs):
    slots, attention = MODULE.apply(params, inputs, noise=NOISE, mask=mask)
    return (slots**2).sum(), (slots, attention)

  run = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
  grads, (slots, attention) = run(params, INPUTS)
  padded = np.where(mask[..., None], INPUTS, np.nan)
  same, (slots_2, _) = run(params, padded)
  jax.tree.map(np.testing.assert_array_equal, (grads, slots), (same, slots_2))
  for leaf in jax.tree.leaves((grads, slots, attention)):
    assert np.isfinite(leaf).all()
  np.testing.assert_array_equal(grads[1][0], 0)
  np.testing.assert_array_equal(grads[1][1, 3], 0)
  np.testing.assert_array_equal(attention[0], 0)
  # Nothing left: the update is zero, so only GRU and MLP act.
  zero = {"params": dict(params["params"])}
  zero["params"]["project_v"] = {"kernel": np.zeros((F, D), np.float32)}
  expected, _ = reference(zero, INPUTS[0], start(params, NOISE[0])[0], 2)
  np.testing.assert_allclose(slots[0], expected, atol=5e-6)


# What is computed.


def buffers(text, shape):
  """Whether an array of these sizes, in any order, occurs in the program."""
  found = {
    tuple(sorted(map(int, s.split(","))))
    for s in re.findall(r"f32\[([\d,]+)\]", text)
  }
  return tuple(sorted(shape)) in found


@pytest.mark.thorough
def test_unused_attention_is_not_stored():
  # Sizes that occur nowhere else: B 2, T 11, K 5, N 37.
  inputs, noise = np.zeros((2, 37, 6)), np.zeros((2, 5, 4))
  module = MODULE.clone(num_slots=5, num_iterations=11)
  tree = shapes(module, inputs)[1]

  def text(fun):
    return jax.jit(fun).lower(tree, inputs, noise).compile().as_text()

  with_attention = text(lambda p, x, n: module.apply(p, x, noise=n))
  assert buffers(with_attention, (2, 11, 5, 37))
  without = text(lambda p, x, n: module.apply(p, x, noise=n)[0])
  assert "while" in without  # The loop over iterations is still one.
  assert not buffers(without, (2, 11, 5, 37))


# Parameters.


def test_names_and_shapes_of_the_parameters():
  params = shapes(MODULE, INPUTS)[1]["params"]
  norm = {"scale": (D,), "bias": (D,)}
  assert jax.tree.map(lambda p: p.shape, params) == {
    "slots_mu": (1, 1, D),
    "slots_log_sigma": (1, 1, D),
    "norm_inputs": {"scale": (F,), "bias": (F,)},
    "norm_slots": norm,
    "norm_mlp": norm,
    "project_q": {"kernel": (D, D)},
    "project_k": {"kernel": (F, D)},
    "project_v": {"kernel": (F, D)},
    "gru": {
      "kernel": (D, 3 * D),
      "recurrent_kernel": (D, 3 * D),
      "bias": (3 * D,),
      "recurrent_bias": (D,),
    },
    "mlp_0": {"kernel": (D, M), "bias": (M,)},
    "mlp_1": {"kernel": (M, D), "bias": (D,)},
  }


@pytest.mark.parametrize("size", [None, 0])
def test_without_mlp(params, size):
  module = MODULE.clone(mlp_hidden_size=size)
  names = set(shapes(module, INPUTS)[1]["params"])
  mlp = {"mlp_0", "mlp_1", "norm_mlp"}
  assert names == set(params["params"]) - mlp
  if size == 0:
    return
  rest = {k: v for k, v in params["params"].items() if k not in mlp}
  slots, _ = jax.jit(module.apply)({"params": rest}, INPUTS, noise=NOISE)
  # An MLP whose last layer is zero adds nothing.
  zero = jax.tree.map(np.zeros_like, params["params"]["mlp_1"])
  expected, _ = reference(
    {"params": params["params"] | {"mlp_1": zero}},
    INPUTS[0],
    start(params, NOISE[0])[0],
    2,
  )
  np.testing.assert_allclose(slots[0], expected, atol=5e-6)


def test_initial_values():
  d = 64
  module = slot_attention.SlotAttention(num_slots=2, slot_size=d)
  inputs = jnp.zeros((1, 3, 32))
  rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
  params = jax.jit(module.init)(rngs, inputs)
  flat = traverse_util.flatten_dict(params["params"], sep="/")
  # Glorot uniform: +-sqrt(6 / (fan_in + fan_out)).
  for name, fans in {
    "slots_mu": 1 + d,
    "slots_log_sigma": 1 + d,
    "project_q/kernel": d + d,
    "project_k/kernel": 32 + d,
    "project_v/kernel": 32 + d,
    "gru/kernel": d + 3 * d,
    "mlp_0/kernel": d + 128,
    "mlp_1/kernel": 128 + d,
  }.items():
    value, limit = np.asarray(flat.pop(name)), np.sqrt(6 / fans)
    assert 0.9 * limit < np.abs(value).max() <= limit * 1.00001, name
    assert abs(value.mean()) < 4 * limit / np.sqrt(3 * value.size), name
  recurrent = np.asarray(flat.pop("gru/recurrent_kernel"))
  np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(d), atol=1e-5)
  for name, value in flat.items():
    np.testing.assert_array_equal(value, float(name.endswith("scale")), name)


@pytest.mark.thorough
def test_per_slot_initialization():
  d = 64
  module = slot_attention.SlotAttention(
    num_slots=500, slot_size=d, slot_init="per_slot"
  )
  inputs = jnp.zeros((1, 3, 8))
  rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
  params = jax.jit(module.init)(rngs, inputs)
  mu = np.asarray(params["params"]["slots_mu"])
  assert mu.shape == (1, 500, d)
  assert abs(mu.mean()) < 0.05
  assert abs(mu.std() - 1) < 0.05
  log_sigma = params["params"]["slots_log_sigma"]
  np.testing.assert_allclose(log_sigma, np.full((1, 500, d), np.log(0.1)))


@pytest.mark.thorough
def test_per_slot_samples_are_of_each_slots_own_gaussian():
  module = MODULE.clone(slot_init="per_slot")
  params = jax.jit(module.init)(jax.random.key(0), INPUTS, noise=NOISE)
  assert params["params"]["slots_mu"].shape == (1, K, D)
  run = jax.jit(module.apply)
  got = run(params, INPUTS, noise=NOISE)
  expected = run(params, INPUTS, initial_slots=start(params, NOISE))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), got, expected
  )


def test_per_slot_initialization_fixes_k():
  module = MODULE.clone(slot_init="per_slot")
  params = shapes(module, INPUTS)[1]
  rngs = {"slots": jax.random.key(0)}

  def run(**options):
    return jax.eval_shape(lambda p: module.apply(p, INPUTS, **options), params)

  with pytest.raises(ValueError, match=f"Expected num_slots={K}.*got {K + 1}"):
    run(num_slots=K + 1, rngs=rngs)
  slots, _ = run(initial_slots=np.ones((B, K + 1, D), np.float32))
  assert slots.shape == (B, K + 1, D)


@pytest.mark.thorough
def test_learned_initial_slots_are_the_same_in_every_call():
  module = MODULE.clone(slot_init="learned")
  params = jax.jit(module.init)(jax.random.key(0), INPUTS)
  names = set(params["params"])
  assert "slots_log_sigma" not in names
  assert params["params"]["slots_mu"].shape == (1, K, D)
  run = jax.jit(module.apply)
  got = run(params, INPUTS)
  initial = np.repeat(params["params"]["slots_mu"], B, axis=0)
  expected = run(params, INPUTS, initial_slots=initial)
  for other in (expected, run(params, INPUTS, noise=NOISE)):
    jax.tree.map(np.testing.assert_array_equal, got, other)
  with pytest.raises(ValueError, match=f"Expected num_slots={K}.*'learned'"):
    module.apply(params, INPUTS, num_slots=K + 1)


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("normalization", "sum"),
    ("normalization", "scaled_sum"),
    ("slot_update", "residual"),
    ("slot_update", "replace"),
  ],
)
def test_ablations_match_numpy(params, name, value):
  module = MODULE.clone(**{name: value})
  tree = shapes(module, INPUTS)[1]["params"]
  assert ("gru" in tree) == (name == "normalization")
  values = {"params": {k: v for k, v in params["params"].items() if k in tree}}
  slots, attention = jax.jit(module.apply)(values, INPUTS, noise=NOISE)
  for b in range(B):
    begin = start(params, NOISE[b])[0]
    expected = reference(params, INPUTS[b], begin, 2, **{name: value})
    np.testing.assert_allclose(slots[b], expected[0], rtol=1e-5, atol=5e-6)
    np.testing.assert_allclose(attention[b], expected[1], atol=5e-6)
    paper = reference(params, INPUTS[b], begin, 2)
    assert np.abs(paper[0] - expected[0]).max() > 0.1


def test_a_scaled_sum_is_scaled_as_in_training_for_other_numbers_of_slots():
  module = MODULE.clone(normalization="scaled_sum", slot_init="shared")
  params = shapes(module, INPUTS)[1]
  params = jax.tree.map(lambda x: normal(7, *x.shape), params)
  more = normal(8, B, K + 3, D)
  slots, _ = jax.jit(module.apply)(params, INPUTS, initial_slots=more)
  expected, _ = reference(
    params, INPUTS[0], more[0], 2, normalization="scaled_sum"
  )
  np.testing.assert_allclose(slots[0], expected, rtol=1e-4, atol=1e-4)


def test_attention_alone_refuses_an_unknown_normalization():
  x = np.ones((1, 2, 3), np.float32)
  with pytest.raises(ValueError, match=r"normalization out of .*'scaled'"):
    attention.attend(x, x, x, normalization="scaled")


@pytest.mark.thorough
@pytest.mark.parametrize("normalization", ["sum", "scaled_sum"])
def test_a_sum_leaves_masked_inputs_out(params, normalization):
  module = MODULE.clone(normalization=normalization)
  mask = np.ones((B, N), bool)
  mask[:, 3:] = False
  run = jax.jit(module.apply)
  got, _ = run(params, INPUTS, noise=NOISE, mask=mask)
  expected, _ = run(params, INPUTS[:, :3], noise=NOISE)
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=5e-6)


# Gradients.

TOWARDS = normal(3, B, K, D)


def gradients(module, params, **options):
  """Slots, and gradients of a loss of them by parameters and noise."""

  @jax.jit
  def run(params, noise):
    def loss(params, noise):
      options_ = {"noise": noise} | options
      slots, attention = module.apply(params, INPUTS, **options_)
      return (slots * TOWARDS).sum(), (slots, attention)

    return jax.value_and_grad(loss, has_aux=True)(params, noise)

  (_, values), grad = run(params, NOISE)
  return values, grad["params"]


@pytest.mark.thorough
def test_implicit_gradients_are_those_of_the_last_iteration(params):
  unrolled = MODULE.clone(num_iterations=4)
  values, whole = gradients(unrolled, params)
  implicit = unrolled.clone(gradient="implicit")
  got, last = gradients(implicit, params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), got, values
  )
  three = MODULE.clone(num_iterations=3)
  before, _ = jax.jit(three.apply)(params, INPUTS, noise=NOISE)
  _, expected = gradients(
    unrolled,
    params,
    initial_slots=before,
    noise=None,
    num_iterations=1,
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    last,
    expected,
  )
  assert not last["slots_mu"].any()
  assert not last["slots_log_sigma"].any()
  kernels = (g["project_v"]["kernel"] for g in (last, whole))
  assert np.abs(np.subtract(*kernels)).max() > 0.1


@pytest.mark.thorough
def test_implicit_start_passes_gradients_to_initial_slots(params):
  implicit = MODULE.clone(num_iterations=4, gradient="implicit")
  got, taught = gradients(implicit.clone(gradient="implicit_start"), params)
  values, last = gradients(implicit, params)
  jax.tree.map(np.testing.assert_array_equal, got, values)
  three = implicit.clone(num_iterations=3)
  before, _ = jax.jit(three.apply)(params, INPUTS, noise=NOISE)

  def loss(slots):
    slots, _ = implicit.apply(
      params, INPUTS, initial_slots=slots, num_iterations=1
    )
    return (slots * TOWARDS).sum()

  expected = jax.jit(jax.grad(loss))(before)  # [B, K, D]
  sigma = np.exp(params["params"]["slots_log_sigma"])
  for name, value in (
    ("slots_mu", expected.sum(axis=(0, 1))),
    ("slots_log_sigma", (expected * NOISE * sigma).sum(axis=(0, 1))),
  ):
    np.testing.assert_allclose(taught[name][0, 0], value, rtol=1e-4, atol=1e-5)
    assert np.abs(value).max() > 0.01
  same = set(taught) - {"slots_mu", "slots_log_sigma"}
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    {k: taught[k] for k in same},
    {k: last[k] for k in same},
  )


@pytest.mark.thorough
@pytest.mark.parametrize(
  ("gradient", "loops"), [("unrolled", 2), ("implicit", 1)]
)
def test_implicit_gradients_have_no_backward_loop(params, gradient, loops):
  module = MODULE.clone(num_iterations=9, gradient=gradient)

  def loss(params):
    return module.apply(params, INPUTS, noise=NOISE)[0].sum()

  text = jax.jit(jax.grad(loss)).lower(params).compile().as_text()
  assert len(re.findall(r" while\(", text)) == loops


@pytest.mark.thorough
def test_one_iteration_is_the_same_whatever_the_gradient(params):
  module = MODULE.clone(num_iterations=1)
  expected = gradients(module, params)
  for gradient in ("implicit", "implicit_start"):
    got = gradients(module.clone(gradient=gradient), params)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize(
  "name", ["slot_init", "slot_update", "normalization", "gradient"]
)
def test_unknown_options_are_errors(name):
  with pytest.raises(ValueError, match=rf"{name} out of .* got 'each'"):
    MODULE.clone(**{name: "each"}).init(jax.random.key(0), INPUTS, noise=NOISE)


def test_bfloat16(params):
  module = MODULE.clone(dtype=jnp.bfloat16)
  out, tree = shapes(module, INPUTS)
  assert {p.dtype for p in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
  assert [x.dtype for x in out] == [jnp.bfloat16, jnp.float32]
  slots, attention = jax.jit(module.apply)(params, INPUTS, noise=NOISE)
  np.testing.assert_allclose(attention.sum(axis=2), 1, atol=1e-6)
  for b in range(B):
    expected = reference(params, INPUTS[b], start(params, NOISE[b])[0], 2)
    error = np.abs(np.asarray(slots[b], np.float32) - expected[0]).max()
    assert 1e-4 < error < 0.05 * np.abs(expected[0]).max()
    np.testing.assert_allclose(attention[b], expected[1], atol=0.05)


# Errors.


@pytest.mark.parametrize(
  ("inputs", "options", "message"),
  [
    ((N, F), {}, r"Expected inputs \[B, N, F\], got \(7, 6\)"),
    ((B, N, F), {"num_iterations": 0}, r"num_iterations >= 1, got 0"),
    ((B, N, F), {"num_slots": 0}, r"num_slots >= 1, got 0"),
    (
      (B, N, F),
      {"noise": (B, K, D + 1)},
      r"Expected noise \[B, K, D\] = \(2, 3, 4\), got \(2, 3, 5\)",
    ),
    (
      (B, N, F),
      {"initial_slots": (1, K, D)},
      r"initial_slots \[B, K, D\] = \(2, 3, 4\), got \(1, 3, 4\)",
    ),
    (
      (B, N, F),
      {"noise": (B, K, D), "num_slots": 5},
      r"noise \[B, K, D\] = \(2, 5, 4\), got \(2, 3, 4\)",
    ),
    (
      (B, N, F),
      {"noise": (B, K, D), "initial_slots": (B, K, D)},
      r"noise or initial_slots, got both",
    ),
    (
      (B, N, F),
      {"noise": (B, K, D), "mask": (B, N, 1)},
      r"mask \[B, N\] = \(2, 7\), got \(2, 7, 1\)",
    ),
  ],
)
def test_errors(inputs, options, message):
  options = {
    k: np.zeros(v, np.float32) if isinstance(v, tuple) else v
    for k, v in options.items()
  }
  with pytest.raises(ValueError, match=message):
    shapes(MODULE, np.zeros(inputs, np.float32), **options)


@pytest.mark.parametrize("gradient", ["unrolled", "implicit"])
def test_iterations_are_traced_once_where_parameters_exist(
  params, gradient, monkeypatch
):
  calls = []

  class Counting(slot_attention.GRUCell):
    def __call__(self, *args):
      calls.append(len(calls))
      return super().__call__(*args)

  monkeypatch.setattr(slot_attention, "GRUCell", Counting)
  module = MODULE.clone(gradient=gradient, num_iterations=5)
  jax.eval_shape(lambda: module.apply(params, INPUTS, noise=NOISE))
  # The last iteration alone has a gradient, if it is implicit.
  assert len(calls) == (2 if gradient == "implicit" else 1)


@pytest.mark.parametrize("gradient", slot_attention.GRADIENTS)
def test_shard_map_takes_it_with_its_check_of_types(gradient):
  mesh = jax.make_mesh(
    (2,),
    ("batch",),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:2],
  )
  module = slot_attention.SlotAttention(
    num_slots=2, slot_size=4, mlp_hidden_size=None, gradient=gradient
  )
  key, inputs = jax.random.key(0), jnp.ones((2, 3, 4))
  params = jax.eval_shape(module.init, {"params": key, "slots": key}, inputs)
  split = jax.shard_map(
    lambda params, x: module.apply(params, x, rngs={"slots": key})[0],
    mesh=mesh,
    in_specs=(jax.P(), jax.P("batch")),
    out_specs=jax.P("batch"),
  )
  assert jax.eval_shape(split, params, inputs).shape == (2, 2, 4)
