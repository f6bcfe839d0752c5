"""Stacks of convolutions for TPU, with pixels packed into channels, exactly.

That packing is faster is the estimate of XLA's compiler for TPUs
(`experiments/tpu/compile_for_tpu.py`). It is unmeasured: it has not run on a
chip.

A TPU's matrix unit multiplies tiles of 128 channels (v6e: 256); layers of 64
channels fill only a part of it. Packing p neighboring columns of an image into
its channels turns a convolution of C to F channels into one of p * C to p * F
channels on an image of 1/p of the width, with the kernel rearranged inside: 64
to 64 channels, 5x5, packed by 2, is 128 to 128 channels, 5x3. That is a fifth
more arithmetic at twice the utilization. Layers follow each other in the packed
layout; the parameters keep the reference's.

XLA:TPU has strided and transposed convolutions of its own, so what is not
packed is left to them, unlike in `dense`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from slot_attention_jax.modules.convolution import dense

_DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")
# Layers of at most this many channels are packed in pairs of columns.
_MAX_CHANNELS = 64
_PACKING = 2


def repack(inputs: jax.Array, old: int, new: int) -> jax.Array:
  """Changes how many columns of an image are packed; 1: not packed.

  The memory order does not change.

  Args:
    inputs: [B, H, W, old * C]; channels run over (column, channel).
    old: columns that are packed.
    new: columns to pack, `old * W` a multiple of it.

  Returns:
    [B, H, old * W / new, new * C].

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import packed
    >>> packed.repack(jnp.zeros((1, 4, 6, 3)), 1, 2).shape
    (1, 4, 3, 6)
  """
  b, h, w, c = inputs.shape
  if old == new:
    return inputs
  if w * old % new or c % old:
    raise ValueError(
      f"Expected a width that packs from {old} to {new}, got {inputs.shape}."
    )
  return inputs.reshape(b, h, w * old // new, c // old * new)


def conv2d(
  inputs: jax.Array, kernel: jax.Array, stride: int, packing: int
) -> jax.Array:
  """`by_platform.conv2d` from a packed image to a packed image.

  Args:
    inputs: [B, H, W, stride * packing * C], packed by `stride * packing`; or
      [B, H, W, C], not packed, if `packing` is 0.
    kernel: [kh, kw, C, F], of the convolution that is not packed.
    stride: stride of both axes, >= 1.
    packing: packing of the result; 0: XLA's own convolution.

  Returns:
    [B, ceil(H / stride), W, packing * F], packed by `packing`; with packing 0
    [B, ceil(H / stride), ceil(W / stride), F].

  Raises:
    ValueError: on channels that do not fit.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import packed
    >>> x, kernel = jnp.ones((1, 8, 4, 6)), jnp.ones((5, 5, 3, 16))
    >>> packed.conv2d(x, kernel, 1, 2).shape
    (1, 8, 4, 32)
  """
  kh, kw, _, _ = kernel.shape
  h, w = inputs.shape[1:3]
  rows = dense.same_padding(h, kh, stride)
  if not packing:
    columns = dense.same_padding(w, kw, stride)
    return _convolve(inputs, kernel, (stride, stride), (rows, columns))
  before = max(kw - stride, 0) // 2
  # Column q of a block of outputs reads column i of the inputs, counted from
  # the block's own first, through tap i + first[q].
  first = [before - stride * q for q in range(packing)]
  kernel, columns = _pack_kernel(kernel, first, 1, stride * packing)
  return _convolve(inputs, kernel, (stride, 1), (rows, columns))


def conv_transpose2d(
  inputs: jax.Array, kernel: jax.Array, stride: int, packing: int
) -> jax.Array:
  """`by_platform.conv_transpose2d` from packed to packed image.

  Args:
    inputs: [B, H, W, packing * C], packed by `packing`; or [B, H, W, C], not
      packed, if `packing` is 0.
    kernel: [kh, kw, F, C], of the convolution that is not packed.
    stride: stride of both axes, >= 1.
    packing: packing of the inputs; 0: XLA's own transposed convolution.

  Returns:
    [B, H * stride, W, stride * packing * F], packed by `stride * packing`;
    with packing 0 [B, H * stride, W * stride, F].

  Raises:
    ValueError: on channels that do not fit.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import packed
    >>> x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((5, 5, 16, 3))
    >>> packed.conv_transpose2d(x, kernel, 2, 1).shape
    (1, 16, 8, 32)
  """
  kh, kw, _, _ = kernel.shape
  kernel = kernel[::-1, ::-1].swapaxes(2, 3)  # [kh, kw, C, F]
  rows = _transposed_padding(kh, stride)
  if not packing:
    columns = _transposed_padding(kw, stride)
    dilation = (stride, stride)
    return _convolve(inputs, kernel, (1, 1), (rows, columns), dilation)
  before = max(kw - stride, 0) // 2
  # Of the flipped kernel, tap stride * i + first[q].
  first = [kw - 1 - before - q for q in range(stride * packing)]
  kernel, columns = _pack_kernel(kernel, first, stride, packing)
  return _convolve(inputs, kernel, (1, 1), (rows, columns), (stride, 1))


Weights = Sequence[tuple[jax.Array, jax.Array]]


def conv_stack(
  inputs: jax.Array, weights: Weights, strides: Sequence[int]
) -> jax.Array:
  """Convolutions with bias and a ReLU after each.

  Args:
    inputs: [B, H, W, C].
    weights: (kernel [k, k, C, F], bias [F]) of each layer, of the inputs'
      dtype.
    strides: stride of each layer.

  Returns:
    [B, H', W', F].

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import packed
    >>> layer = jnp.ones((5, 5, 3, 64)), jnp.ones((64,))
    >>> packed.conv_stack(
    ...   jnp.ones((1, 8, 8, 3)), [layer], [2]).shape
    (1, 4, 4, 64)
  """
  x, packed, width = inputs, 1, inputs.shape[2]
  for i, ((kernel, bias), stride) in enumerate(
    zip(weights, strides, strict=True)
  ):
    with jax.named_scope(f"conv_{i}"):
      packing = _choose_packing(kernel.shape[3], stride)
      # Only whole blocks can be packed.
      packing = 0 if packing and width % (stride * packing) else packing
      x = nn.relu(_fusion_barrier(x)) if i else x
      x = repack(x, packed, stride * packing or 1)
      packed, width = packing or 1, -(-width // stride)
      x = conv2d(x, kernel, stride, packing) + _tile(bias, packed)
  return repack(nn.relu(x), packed, 1)


def conv_transpose_stack(
  inputs: jax.Array, weights: Weights, strides: Sequence[int]
) -> jax.Array:
  """Transposed convolutions with bias and a ReLU before each.

  Arguments and result are those of `conv_stack`, but kernels are [k, k, F, C].

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import packed
    >>> layer = jnp.ones((5, 5, 4, 64)), jnp.ones((4,))
    >>> packed.conv_transpose_stack(
    ...   jnp.ones((1, 8, 8, 64)), [layer], [2]).shape
    (1, 16, 16, 4)
  """
  x, packed, width = inputs, 1, inputs.shape[2]
  for i, ((kernel, bias), stride) in enumerate(
    zip(weights, strides, strict=True)
  ):
    with jax.named_scope(f"conv_{i}"):
      packing = _choose_packing(kernel.shape[2], stride)
      packing = 0 if packing and width % packing else packing
      # Packed upsampling is faster only if the next layer reads it packed.
      if stride > 1 and set(strides[i + 1 : i + 2]) != {1}:
        packing = 0
      x = repack(nn.relu(_fusion_barrier(x) if i else x), packed, packing or 1)
      packed, width = stride * packing or 1, width * stride
      x = conv_transpose2d(x, kernel, stride, packing) + _tile(bias, packed)
  return repack(x, packed, 1)


def _choose_packing(features: int, stride: int) -> int:
  """Packing of a layer by its features; 0 where packing is not faster."""
  if features > _MAX_CHANNELS or _PACKING % stride:
    return 0
  return _PACKING // stride


@jax.custom_jvp
def _fusion_barrier(x):
  """The identity, which XLA does not fuse across.

  XLA:TPU would otherwise fuse a layer into the next one and compute it many
  times over: by its estimate the decoder's forward pass took 1.6 times the
  cycles.
  """
  return jax.lax.optimization_barrier(x)


@_fusion_barrier.defjvp
def _fusion_barrier_jvp(primals, tangents):
  return _fusion_barrier(*primals), tangents[0]


def _tile(bias, packing):
  return jnp.tile(bias, packing)[None, None, None, :]


def _transposed_padding(k, stride):
  """Padding of the dilated image; negative crops it."""
  before = max(k - stride, 0) // 2
  return k - 1 - before, stride - 1 + before


def _pack_kernel(kernel, first, step, block):
  """Packs the columns of a kernel.

  Args:
    kernel: [kh, kw, C, F].
    first: for each column of a block of outputs, the tap that reads the first
      column of its own block of inputs; taps outside the kernel are 0.
    step: taps from one column of inputs to the next.
    block: columns of a block of inputs.

  Returns:
    A pair (kernel [kh, n, block * C, len(first) * F], blocks of padding
    before and after).
  """
  kh, kw, c, _ = kernel.shape
  # Column i is read if 0 <= tap + step * i < kw.
  low = min(-(tap // step) for tap in first) // block
  high = max((kw - 1 - tap) // step for tap in first) // block
  low, high = min(low, 0), max(high, 0)
  size = step * block * (high - low + 1)
  columns = []
  for tap in first:
    start = tap + step * block * low
    taps = dense.pad(kernel, {1: (-start, start + size - kw)})
    columns.append(jax.lax.slice_in_dim(taps, 0, size, step, axis=1))
  kernel = jnp.concatenate(columns, axis=-1)  # [kh, n * block, C, q * F]
  kernel = kernel.reshape(kh, high - low + 1, block * c, -1)
  return kernel, (-low, high)


def _convolve(inputs, kernel, strides, padding, dilation=(1, 1)):
  if inputs.ndim != 4 or inputs.shape[-1] != kernel.shape[2]:
    raise ValueError(
      f"Expected inputs [B, H, W, {kernel.shape[2]}], got {inputs.shape}."
    )
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=strides,
    padding=padding,
    lhs_dilation=dilation,
    dimension_numbers=_DIMENSION_NUMBERS,
  )
