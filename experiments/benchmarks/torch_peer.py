"""The same models in PyTorch, to compare the train step with.

Written as PyTorch is written well: convolutions of images in channels_last,
`nn.GRUCell`, automatic mixed precision, fused Adam, and nothing that
`torch.compile` cannot take but SciPy's matching. It sees pictures turned by 180
degrees. TensorFlow's `SAME` pads a strided convolution by one more at the
bottom and right and crops a transposed one so; PyTorch's own `padding` and
`output_padding` have the larger part at the top and left. With pictures,
position grids and kernels turned the two are the same function, at no cost.
"""

import itertools
import re
import time
from typing import Any

import numpy as np
import torch
from scipy import optimize
from torch import nn
from torch.nn import functional as F

LAYER_NORM_EPSILON = 1e-3


def turn(images: np.ndarray) -> torch.Tensor:
  """Images [B, H, W, C] turned by 180 degrees, [B, C, H, W] channels_last."""
  turned = np.ascontiguousarray(images[:, ::-1, ::-1])
  return torch.from_numpy(turned).permute(0, 3, 1, 2)


def _paddings(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
  """What `SAME` pads before and after an axis of a turned picture."""
  out = -(-size // stride)
  total = max((out - 1) * stride + kernel_size - size, 0)
  before = -(-total // 2)
  if stride == 1 and total % 2:
    raise ValueError(
      f"Expected odd kernels where the stride is 1, got {kernel_size}."
    )
  return before, total - before


def _convolution(features, channels, kernel_size, stride, size):
  padding = tuple(_paddings(n, kernel_size, stride)[0] for n in size)
  return nn.Conv2d(channels, features, kernel_size, stride, padding)


def _transposed_convolution(features, channels, kernel_size, stride, size):
  if kernel_size < stride:
    raise ValueError(
      f"Expected kernels of at least the stride {stride}, got {kernel_size}."
    )
  whole = tuple(n * stride for n in size)
  pads = [_paddings(n, kernel_size, stride) for n in whole]
  return nn.ConvTranspose2d(
    channels,
    features,
    kernel_size,
    stride,
    padding=tuple(before for before, _ in pads),
    output_padding=tuple(before - after for before, after in pads),
  )


class SoftPositionEmbed(nn.Module):
  """A learned linear map of the position grid, [H, W, C]."""

  def __init__(self, channels, size):
    super().__init__()
    self.dense = nn.Linear(4, channels)
    rows, columns = (torch.linspace(0, 1, n) for n in size)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
    grid = torch.cat([grid, 1 - grid], dim=-1).flip(0, 1)
    self.register_buffer("grid", grid, persistent=False)

  def forward(self):
    """The embedding of every cell."""
    return self.dense(self.grid)


class Encoder(nn.Module):
  """Images [B, 3, H, W] to inputs [B, N, F]."""

  def __init__(self, model, size):
    super().__init__()
    channels, layers = 3, []
    for features, kernel_size, stride in zip(
      model.encoder_channels,
      model.encoder_kernel_sizes,
      model.encoder_strides,
      strict=True,
    ):
      layers.append(_convolution(features, channels, kernel_size, stride, size))
      size = tuple(-(-n // stride) for n in size)
      channels = features
    self.conv = nn.ModuleList(layers)
    self.position = SoftPositionEmbed(channels, size)
    self.norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON)
    widths = (channels, *model.encoder_mlp_sizes)
    self.mlp = nn.ModuleList(
      nn.Linear(a, b) for a, b in itertools.pairwise(widths)
    )

  def forward(self, images):
    """Encodes images."""
    x = images
    for layer in self.conv:
      x = F.relu(layer(x))
    x = x.permute(0, 2, 3, 1) + self.position()  # [B, H, W, C]
    x = self.norm(x.flatten(1, 2))
    for i, layer in enumerate(self.mlp):
      x = layer(F.relu(x) if i else x)
    return x


class SlotAttention(nn.Module):
  """Inputs [B, N, F] and noise [B, K, D] to slots [B, K, D]."""

  def __init__(self, model):
    super().__init__()
    d, features = model.slot_size, model.encoder_mlp_sizes[-1]
    self.num_iterations = model.num_iterations
    self.scale = d**-0.5
    self.epsilon = model.epsilon
    num_starts = model.num_slots if model.slot_start == "per_slot" else 1
    self.slots_mu = nn.Parameter(torch.empty(1, num_starts, d))
    self.slots_log_sigma = nn.Parameter(torch.empty(1, num_starts, d))
    self.norm_inputs = nn.LayerNorm(features, eps=LAYER_NORM_EPSILON)
    self.norm_slots = nn.LayerNorm(d, eps=LAYER_NORM_EPSILON)
    self.project_q = nn.Linear(d, d, bias=False)
    self.project_k = nn.Linear(features, d, bias=False)
    self.project_v = nn.Linear(features, d, bias=False)
    self.gru = nn.GRUCell(d, d)
    self.mlp = None
    if model.mlp_hidden_size:
      self.norm_mlp = nn.LayerNorm(d, eps=LAYER_NORM_EPSILON)
      h = model.mlp_hidden_size
      self.mlp = nn.ModuleList([nn.Linear(d, h), nn.Linear(h, d)])

  def forward(self, inputs, noise):
    """Binds slots to the inputs."""
    inputs = self.norm_inputs(inputs)
    keys, values = self.project_k(inputs), self.project_v(inputs)
    keys = keys.transpose(1, 2)  # [B, D, N]
    slots = self.slots_mu + self.slots_log_sigma.exp() * noise
    for _ in range(self.num_iterations):
      queries = self.project_q(self.norm_slots(slots)) * self.scale
      attention = (queries @ keys).softmax(dim=1) + self.epsilon  # [B, K, N]
      weights = attention / attention.sum(dim=-1, keepdim=True)
      updates = weights @ values  # [B, K, D]
      slots = self.gru(updates.flatten(0, 1), slots.flatten(0, 1))
      slots = slots.view_as(noise)
      if self.mlp is not None:
        hidden = F.relu(self.mlp[0](self.norm_mlp(slots)))
        slots = slots + self.mlp[1](hidden)
    return slots


class Decoder(nn.Module):
  """Slots [B, K, D] to a reconstruction [B, 3, H, W]."""

  def __init__(self, model):
    super().__init__()
    size, channels, layers = tuple(model.broadcast_size), model.slot_size, []
    self.position = SoftPositionEmbed(channels, size)
    for features, kernel_size, stride in zip(
      (*model.decoder_channels, 4),
      model.decoder_kernel_sizes,
      model.decoder_strides,
      strict=True,
    ):
      layers.append(
        _transposed_convolution(features, channels, kernel_size, stride, size)
      )
      size = tuple(n * stride for n in size)
      channels = features
    self.conv = nn.ModuleList(layers)

  def forward(self, slots):
    """Decodes each slot on its own and mixes them."""
    b, k, _ = slots.shape
    x = slots.flatten(0, 1)[:, None, None] + self.position()
    x = x.permute(0, 3, 1, 2)  # [B * K, D, h, w], channels_last
    for i, layer in enumerate(self.conv):
      x = layer(F.relu(x) if i else x)
    x = x.unflatten(0, (b, k)).float()  # [B, K, 4, H, W]
    masks = x[:, :, 3:].softmax(dim=1)
    return (masks * x[:, :, :3]).sum(dim=1)


class Head(nn.Module):
  """Slots [B, K, D] to property vectors [B, K, P]."""

  def __init__(self, model):
    super().__init__()
    widths = (model.slot_size, model.head_hidden_size, model.num_properties)
    self.dense = nn.ModuleList(
      nn.Linear(a, b) for a, b in itertools.pairwise(widths)
    )

  def forward(self, slots):
    """Predicts the properties."""
    hidden = F.relu(self.dense[0](slots))
    return self.dense[1](hidden).float().sigmoid()


@torch.compiler.disable
def _match(cost):
  """Pairs of least total cost by SciPy: columns [B, K] of the rows."""
  return torch.as_tensor(
    np.stack([optimize.linear_sum_assignment(c)[1] for c in cost.cpu().numpy()])
  ).to(cost.device)


class Peer(nn.Module):
  """The model of a task and its loss.

  Attributes:
    encoder: images to inputs.
    slot_attention: inputs to slots.
    decoder: slots to an image; None for set prediction.
    head: slots to property vectors; None for object discovery.
  """

  def __init__(self, task: Any):
    """Builds the PyTorch model of a task of the package."""
    super().__init__()
    model = task.model
    self.encoder = Encoder(model, tuple(task.image_shape[:2]))
    self.slot_attention = SlotAttention(model)
    discovery = hasattr(model, "broadcast_size")
    self.decoder = Decoder(model) if discovery else None
    self.head = None if discovery else Head(model)
    weights = getattr(task, "weights", None)
    weights = None if weights is None else torch.tensor(weights)
    self.register_buffer("weights", weights, persistent=False)

  def forward(self, images, noise):
    """Reconstruction [B, 3, H, W] or predictions [B, K, P]."""
    slots = self.slot_attention(self.encoder(images), noise)
    return (self.head if self.decoder is None else self.decoder)(slots)

  def loss(self, images, targets, noise):
    """A pair (scalar loss, output)."""
    output = self(images, noise)
    if self.decoder is not None:
      return F.mse_loss(output, images), output
    k, o = output.shape[1], targets.shape[1]
    if k < o:
      raise ValueError(f"Expected at least {o} slots for {o} objects, got {k}.")
    cost = F.huber_loss(
      output[:, None].expand(-1, o, -1, -1),
      targets[:, :, None].expand(-1, -1, k, -1),
      reduction="none",
    )
    if self.weights is not None:
      cost = cost * self.weights
    cost = cost.mean(dim=-1)  # [B, O, K]
    columns = _match(cost.detach())  # [B, O]
    return cost.gather(2, columns[..., None]).sum() / len(cost), output


def to_state_dict(params: Any) -> dict[str, torch.Tensor]:
  """The package's parameters, or their gradients, under the peer's names.

  Args:
    params: the tree below `"params"`, of arrays.

  Returns:
    A dict for `Peer.load_state_dict`. PyTorch has two biases of the gates r and
    z of the GRU, of which only the sum counts: the second is 0.
  """
  state = {}
  for name, leaf in _leaves(params):
    array = np.asarray(leaf)
    if name.startswith("slot_attention.gru."):
      continue
    if name.endswith(".kernel") and array.ndim == 2:
      array = array.T
    elif name.endswith(".kernel"):
      # Both [k, k, C, F] and the transposed [k, k, F, C]: last axis first.
      array = array[::-1, ::-1].transpose(3, 2, 0, 1)
    name = re.sub(r"\.(conv|mlp|dense)_(\d+)\.", r".\1.\2.", name)
    name = re.sub(r"\.(kernel|scale)$", ".weight", name)
    state[name] = array
  gru = params["slot_attention"]["gru"]

  def in_order(x):  # Of the gates: Keras has z, r, h and PyTorch r, z, n.
    z, r, h = np.split(np.asarray(x), 3, axis=-1)
    return np.concatenate([r, z, h], axis=-1).T

  recurrent = np.asarray(gru["recurrent_bias"])
  state |= {
    "slot_attention.gru.weight_ih": in_order(gru["kernel"]),
    "slot_attention.gru.weight_hh": in_order(gru["recurrent_kernel"]),
    "slot_attention.gru.bias_ih": in_order(gru["bias"]),
    "slot_attention.gru.bias_hh": np.pad(recurrent, (2 * len(recurrent), 0)),
  }
  return {k: torch.from_numpy(v.copy()) for k, v in state.items()}


def to_tensors(
  batch: dict[str, np.ndarray],
) -> tuple[torch.Tensor, torch.Tensor | None]:
  """Turned images and the targets, if any, of a batch."""
  target = batch.get("target")
  target = None if target is None else torch.from_numpy(target)
  return turn(batch["image"]), target


def _leaves(tree, prefix=""):
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from _leaves(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value


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
    peer: Peer,
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
  peer: Peer,
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


def peak_memory_bytes() -> int | None:
  """Most memory that PyTorch held on the GPU; None on a CPU."""
  if not torch.cuda.is_available():
    return None
  return torch.cuda.max_memory_allocated()


def describe() -> str:
  """Version and settings, for a table."""
  name = f"PyTorch {torch.__version__}"
  if not torch.cuda.is_available():
    return f"{name}, {torch.get_num_threads()} threads"
  return (
    f"{name}, {torch.cuda.get_device_name()}, cudnn.benchmark, TF32 allowed"
  )
