"""The train step of the PyTorch peer, and whether it computes the same."""

import dataclasses
import time
from typing import Any

import jax
import numpy as np
import torch
from torch import nn

from experiments.benchmarks import torch_peer, torch_weights

# Largest differences from the peer. Gradients are relative to the norm of each
# parameter's; at the start of a training those of the encoder are the sum of
# terms a thousand times as large, which rounds them.
_BOUNDS = {
  "output": 1e-4,
  "loss": 1e-4,
  "gradient norm": 1e-3,
  "gradient": 1e-2,
}


def find_device() -> torch.device:
  """Where the peer runs: a GPU if PyTorch sees one."""
  return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _finish():
  if torch.cuda.is_available():
    torch.cuda.synchronize()


class TrainStep:
  """Forward pass, backward pass and update of a peer on one batch.

  Attributes:
    loss: the last update's.
  """

  def __init__(
    self,
    peer: torch_peer.Peer,
    optim: Any,
    images: torch.Tensor,
    targets: torch.Tensor | None,
    noise_shape: tuple[int, int, int],
    *,
    bfloat16: bool,
    compile_mode: str | None,
  ):
    """Prepares the updates.

    Args:
      peer: the model, with its weights.
      optim: the `optim` group of a config.
      images: turned images, as `turn` gives them.
      targets: [B, O, P], or None for object discovery.
      noise_shape: (B, K, D) of the noise that the slots start from.
      bfloat16: compute convolutions and matrix products in bfloat16.
      compile_mode: mode of `torch.compile`; None: not compiled.
    """
    self._device = find_device()
    self._peer = peer.to(self._device, memory_format=torch.channels_last)
    self._images = images.to(self._device)
    self._targets = None if targets is None else targets.to(self._device)
    self._noise_shape = noise_shape
    self._bfloat16 = bfloat16
    self._loss_of = peer.loss
    if compile_mode is not None:
      self._loss_of = torch.compile(peer.loss, mode=compile_mode)
    self._clip_norm = optim.clip_norm
    self._optimizer = torch.optim.Adam(
      peer.parameters(),
      lr=optim.learning_rate,
      betas=(optim.b1, optim.b2),
      eps=optim.eps,
      fused=True,
    )
    warmup, rate, each = optim.warmup_steps, optim.decay_rate, optim.decay_steps
    self._schedule = torch.optim.lr_scheduler.LambdaLR(
      self._optimizer,
      lambda s: (min(1.0, s / warmup) if warmup else 1.0) * rate ** (s / each),
    )
    self.loss = float("nan")

  @property
  def peak_memory_bytes(self) -> int | None:
    """Most memory that PyTorch held on the GPU; None on a CPU."""
    if not torch.cuda.is_available():
      return None
    return torch.cuda.max_memory_allocated()

  def __call__(self, num_steps: int = 1):
    """Updates `num_steps` times and waits until it is done."""
    for _ in range(num_steps):
      noise = torch.randn(self._noise_shape, device=self._device)
      with torch.autocast(
        self._device.type, dtype=torch.bfloat16, enabled=self._bfloat16
      ):
        loss, _ = self._loss_of(self._images, self._targets, noise)
      self._optimizer.zero_grad(set_to_none=True)
      loss.backward()
      if self._clip_norm:
        nn.utils.clip_grad_norm_(self._peer.parameters(), self._clip_norm)
      self._optimizer.step()
      self._schedule.step()
    _finish()
    self.loss = loss.item()


def configure(num_threads: int) -> None:
  """Sets the threads, and on a GPU what a fast program sets."""
  torch.set_num_threads(num_threads)
  torch.backends.cudnn.benchmark = True
  _allow_tf32(True)


def _allow_tf32(allow):
  torch.backends.cuda.matmul.allow_tf32 = allow
  torch.backends.cudnn.allow_tf32 = allow


def loss_and_gradients(
  peer: torch_peer.Peer,
  images: torch.Tensor,
  targets: torch.Tensor | None,
  noise: np.ndarray,
) -> tuple[float, np.ndarray, dict[str, np.ndarray]]:
  """Loss, output and gradients in full float32, to compare.

  Args:
    peer: the model.
    images: turned images, as `turn` gives them.
    targets: [B, O, P] or None.
    noise: [B, K, D] noise of the slots.

  Returns:
    A triple: the loss; the output, a reconstruction as [B, H, W, 3], turned
    back, or predictions [B, K, P]; the gradients by the parameters' names.
  """
  device = find_device()
  peer.to(device, memory_format=torch.channels_last)
  targets = None if targets is None else targets.to(device)
  _allow_tf32(False)
  loss, output = peer.loss(
    images.to(device), targets, torch.tensor(noise, device=device)
  )
  loss.backward()
  _allow_tf32(True)
  if peer.decoder is not None:
    output = output.flip(2, 3).permute(0, 2, 3, 1)
  gradients = {k: p.grad.cpu().numpy() for k, p in peer.named_parameters()}
  peer.zero_grad(set_to_none=True)
  return loss.item(), output.detach().cpu().numpy(), gradients


def check_peer(task: Any, params: Any, batch: dict, peer: Any) -> dict:
  """Compares losses, outputs and gradients of both sides in float32.

  Args:
    task: the task.
    params: its parameters.
    batch: a NumPy batch, of which at most two examples are used.
    peer: the peer, which holds the same weights.

  Returns:
    The largest differences by the names of `_BOUNDS`.

  Raises:
    ValueError: if the two do not compute the same.
  """
  batch = {name: x[:2] for name, x in batch.items()}
  model = task.model.clone(dtype=None)
  shape = (len(batch["image"]), model.num_slots, model.slot_size)
  noise = np.random.default_rng(1).normal(size=shape).astype(np.float32)

  def loss(params):
    exact = dataclasses.replace(task, model=model)
    output = model.apply(params, batch["image"], noise=noise)
    outputs = getattr(output, "reconstruction", None)
    if outputs is None:
      outputs = output.predictions
    return exact.loss(params, batch, noise), outputs

  with jax.default_matmul_precision("float32"):
    (value, output), gradients = jax.device_get(
      jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    )
  value_of_peer, output_of_peer, theirs = loss_and_gradients(
    peer, *torch_peer.to_tensors(batch), noise
  )
  ours = torch_weights.to_state_dict(gradients["params"])
  whole = np.sqrt(sum(np.sum(x.numpy() ** 2) for x in ours.values()))
  differences = dict.fromkeys(_BOUNDS, 0.0)
  differences["output"] = float(np.max(np.abs(output - output_of_peer)))
  differences["loss"] = abs(float(value) - value_of_peer) / abs(float(value))
  for name, tensor in ours.items():
    mine, other = tensor.numpy(), theirs[name]
    if name.endswith("bias_hh"):  # Its other gates are those of bias_ih.
      other = np.where(mine == 0, 0, other)
    norms = np.linalg.norm(mine), np.linalg.norm(other)
    # One is zero but for rounding: a bias of all queries changes nothing.
    scale = max(norms[0], 1e-3 * whole)
    for key, difference in (
      ("gradient norm", abs(norms[0] - norms[1])),
      ("gradient", np.linalg.norm(mine - other)),
    ):
      differences[key] = max(differences[key], float(difference / scale))
  for name, difference in differences.items():
    if not difference <= _BOUNDS[name]:
      raise ValueError(
        f"Expected the peer to compute the same, got a difference of the "
        f"{name} of {difference:.1e} where {_BOUNDS[name]:g} is allowed: it is "
        "another model, and its time says nothing."
      )
  return differences


def matmul_seconds(size: int, *, bfloat16: bool, repeats: int) -> float:
  """Fewest seconds of a product of two square matrices."""
  dtype = torch.bfloat16 if bfloat16 else torch.float32
  a = torch.randn(size, size, device=find_device(), dtype=dtype)
  times = []
  for _ in range(repeats + 1):
    _finish()
    start = time.perf_counter()
    a @ a
    _finish()
    times.append(time.perf_counter() - start)
  return min(times)


def describe() -> str:
  """Version and settings, for a table."""
  name = f"PyTorch {torch.__version__}"
  if not torch.cuda.is_available():
    return f"{name}, {torch.get_num_threads()} threads"
  return (
    f"{name}, {torch.cuda.get_device_name()}, cudnn.benchmark, TF32 allowed"
  )
