"""The same models in PyTorch, to compare the train step with.

Written as PyTorch is written well: convolutions of images in channels_last,
`nn.GRUCell`, automatic mixed precision, fused Adam, and nothing that
`torch.compile` cannot take but SciPy's matching. It sees images turned by 180
degrees. TensorFlow's `SAME` pads a strided convolution by one more at the
bottom and right and crops a transposed one so; PyTorch's own `padding` and
`output_padding` have the larger part at the top and left. With images,
position grids and kernels turned the two are the same function, at no cost.
"""

import itertools
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
  """What `SAME` pads before and after an axis of a turned image."""
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
    num_starts = model.num_slots if model.slot_init == "per_slot" else 1
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
    if getattr(model, "attention_moments", False):
      raise ValueError(
        "Expected a model without attention_moments, which the PyTorch peer "
        "lacks. Set model.attention_moments=False, or --peer=none."
      )
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


def to_tensors(
  batch: dict[str, np.ndarray],
) -> tuple[torch.Tensor, torch.Tensor | None]:
  """Turned images and the targets, if any, of a batch."""
  target = batch.get("target")
  target = None if target is None else torch.from_numpy(target)
  return turn(batch["image"]), target
