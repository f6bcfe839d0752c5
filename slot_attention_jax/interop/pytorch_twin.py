"""The paper's models in PyTorch, with the same outputs as those in Flax.

This file needs PyTorch alone and can be copied into another project;
`interop.pytorch` converts parameters. Images are [B, C, H, W] in [-1, 1], as
PyTorch has them. TensorFlow's `SAME` padding, which is not symmetric where
strides are above 1, is applied by hand.
"""

# Where PyTorch is not installed, its types are unknown.
# pyright: reportInvalidTypeForm=false

import itertools
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

Tensor = torch.Tensor


class SlotAttention(nn.Module):
  """Inputs [B, N, F] to slots [B, K, D] (Algorithm 1 of the paper)."""

  def __init__(
    self,
    num_slots: int,
    num_features: int,
    slot_size: int = 64,
    num_iterations: int = 3,
    mlp_hidden_size: int = 128,
    epsilon: float = 1e-8,
    slot_init: str = "shared",
    layer_norm_epsilon: float = 1e-3,
    normalization: str = "mean",
  ):
    super().__init__()
    self.num_slots, self.num_iterations = num_slots, num_iterations
    self.normalization = normalization
    self.slot_size, self.epsilon, self.slot_init = slot_size, epsilon, slot_init
    d, h, eps = slot_size, mlp_hidden_size, layer_norm_epsilon
    count = {"shared": 1, "background": 2}.get(slot_init, num_slots)
    self.slots_mu = nn.Parameter(torch.randn(1, count, d))
    if slot_init != "learned":
      self.slots_log_sigma = nn.Parameter(torch.zeros(1, count, d))
    self.norm_inputs = nn.LayerNorm(num_features, eps)
    self.norm_slots = nn.LayerNorm(d, eps)
    self.project_q = nn.Linear(d, d, bias=False)
    self.project_k = nn.Linear(num_features, d, bias=False)
    self.project_v = nn.Linear(num_features, d, bias=False)
    self.gru = nn.GRUCell(d, d)
    self.norm_mlp = nn.LayerNorm(d, eps) if h else None
    layers = [nn.Linear(d, h), nn.Linear(h, d)] if h else []
    self.mlp = nn.ModuleList(layers)

  def initial_slots(self, batch_size: int, noise: Tensor | None) -> Tensor:
    """Samples the slots [B, K, D] that the iterations begin with."""
    k = self.num_slots if noise is None else noise.shape[1]
    shape = (batch_size, k, self.slot_size)
    # "background": slot 0 has the first Gaussian, all others the second.
    index = [min(i, self.slots_mu.shape[1] - 1) for i in range(k)]
    mu = self.slots_mu[:, index]
    if self.slot_init == "learned":
      return mu.expand(shape)
    noise = torch.randn(shape, device=mu.device) if noise is None else noise
    return mu + self.slots_log_sigma[:, index].exp() * noise

  def forward(
    self, inputs: Tensor, noise: Tensor | None = None
  ) -> tuple[Tensor, Tensor]:
    """Returns slots [B, K, D] and attention [B, T, K, N]."""
    inputs = self.norm_inputs(inputs)
    keys, values = self.project_k(inputs), self.project_v(inputs)  # [B, N, D]
    slots = self.initial_slots(len(inputs), noise)
    attentions = []
    for _ in range(self.num_iterations):
      queries = self.project_q(self.norm_slots(slots)) * self.slot_size**-0.5
      attention = (queries @ keys.transpose(1, 2)).softmax(dim=1)  # [B, K, N]
      attentions.append(attention)
      weights = attention + self.epsilon
      if self.normalization == "mean":
        weights = weights / weights.sum(dim=-1, keepdim=True)
      elif self.normalization == "scaled_sum":
        weights = weights * (self.num_slots / weights.shape[-1])
      updates = weights @ values
      new = self.gru(updates.flatten(0, 1), slots.flatten(0, 1))
      slots = new.view(slots.shape)  # [B, K, D]
      if self.norm_mlp is not None:
        slots = slots + self.mlp[1](F.relu(self.mlp[0](self.norm_mlp(slots))))
    return slots, torch.stack(attentions, dim=1)


class SoftPositionEmbed(nn.Module):
  """Adds a learned linear map of the position grid to x [B, H, W, C]."""

  def __init__(self, channels: int):
    super().__init__()
    self.dense = nn.Linear(4, channels)

  def forward(self, x: Tensor) -> Tensor:
    """Returns [B, H, W, C]."""
    rows, columns = (torch.linspace(0, 1, n) for n in x.shape[1:3])
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
    return x + self.dense(torch.cat([grid, 1 - grid], dim=-1).to(x))


class SameConv(nn.Conv2d):
  """A convolution with `SAME` padding: H to ceil(H / stride)."""

  def forward(self, x: Tensor) -> Tensor:
    """Maps [B, C, H, W] to [B, F, H', W']."""
    (k, _), (stride, _) = self.kernel_size, self.stride
    total = [
      max((-(-n // stride) - 1) * stride + k - n, 0) for n in x.shape[-2:]
    ]
    (top, left), (h, w) = [n // 2 for n in total], total
    return super().forward(F.pad(x, (left, w - left, top, h - top)))


class SameConvTranspose(nn.ConvTranspose2d):
  """A transposed convolution with `SAME` padding: H to H * stride."""

  def forward(self, x: Tensor) -> Tensor:
    """Maps [B, C, H, W] to [B, F, H * stride, W * stride]."""
    (k, _), (stride, _) = self.kernel_size, self.stride
    height, width = (n * stride for n in x.shape[-2:])
    first, missing = max(k - stride, 0) // 2, max(stride - k, 0)
    x = F.conv_transpose2d(x, self.weight, stride=stride)
    x = F.pad(x, (0, missing, 0, missing))
    x = x[..., first : first + height, first : first + width]
    return x if self.bias is None else x + self.bias[:, None, None]


class Encoder(nn.Module):
  """Images [B, C, H, W] to inputs [B, N, F]."""

  def __init__(
    self,
    channels: Sequence[int] = (64, 64, 64, 64),
    kernel_sizes: Sequence[int] = (5, 5, 5, 5),
    strides: Sequence[int] = (1, 1, 1, 1),
    mlp_sizes: Sequence[int] = (64, 64),
    layer_norm_epsilon: float = 1e-3,
  ):
    super().__init__()
    self.strides = tuple(strides)
    sizes = itertools.pairwise((3, *channels))
    layers = zip(sizes, kernel_sizes, strides, strict=True)
    self.conv = nn.ModuleList(SameConv(*c, k, s) for c, k, s in layers)
    self.position = SoftPositionEmbed(channels[-1])
    self.norm = nn.LayerNorm(channels[-1], layer_norm_epsilon)
    widths = itertools.pairwise((channels[-1], *mlp_sizes))
    self.mlp = nn.ModuleList(nn.Linear(*w) for w in widths)

  def feature_grid(self, height: int, width: int) -> tuple[int, int]:
    """The grid that the N inputs of images of this size lie on."""
    for stride in self.strides:
      height, width = -(-height // stride), -(-width // stride)
    return height, width

  def forward(self, x: Tensor) -> Tensor:
    """Encodes images."""
    for layer in self.conv:
      x = F.relu(layer(x))
    x = self.position(x.permute(0, 2, 3, 1)).flatten(1, 2)  # [B, N, C]
    x = self.norm(x)
    for i, layer in enumerate(self.mlp):
      x = layer(F.relu(x) if i else x)
    return x


class Decoder(nn.Module):
  """Slots [B, K, D] to images [B, K, C, H, W] and logits [B, K, 1, H, W]."""

  def __init__(
    self,
    slot_size: int = 64,
    broadcast_size: tuple[int, int] = (8, 8),
    channels: Sequence[int] = (64, 64, 64, 64, 64),
    kernel_sizes: Sequence[int] = (5, 5, 5, 5, 5, 3),
    strides: Sequence[int] = (2, 2, 2, 2, 1, 1),
    output_size: tuple[int, int] | None = None,
  ):
    super().__init__()
    self.broadcast_size = tuple(broadcast_size)
    self.output_size = tuple(output_size or (None, None))  # None: no crop.
    sizes = itertools.pairwise((slot_size, *channels, 4))
    layers = zip(sizes, kernel_sizes, strides, strict=True)
    self.conv = nn.ModuleList(SameConvTranspose(*c, k, s) for c, k, s in layers)
    self.position = SoftPositionEmbed(slot_size)

  def forward(self, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Decodes each slot on its own."""
    grid = slots.flatten(0, 1)[:, None, None]  # [B * K, 1, 1, D]
    x = self.position(grid.expand(-1, *self.broadcast_size, -1))
    x = x.permute(0, 3, 1, 2)
    for i, layer in enumerate(self.conv):
      x = layer(F.relu(x) if i else x)
    height, width = self.output_size
    x = x[..., :height, :width].unflatten(0, slots.shape[:2])
    return x[:, :, :3], x[:, :, 3:]


class SmoothBackground(nn.Module):
  """Slots [B, D] to images [B, 3, H, W], interpolated between few colors.

  The outermost of `grid` by `grid` colors lie in the corners of the image.
  """

  def __init__(
    self, slot_size: int, grid: int, hidden_size: int = 64, logit: float = 0.0
  ):
    super().__init__()
    self.grid, self.logit = grid, logit
    layers = (slot_size, hidden_size), (hidden_size, grid * grid * 3)
    self.dense = nn.ModuleList(nn.Linear(*layer) for layer in layers)

  def forward(self, slots: Tensor, size: tuple[int, int]) -> Tensor:
    """Decodes the slots of the background to images of (H, W) = size."""
    colors = self.dense[1](F.relu(self.dense[0](slots)))
    colors = colors.unflatten(1, (self.grid, self.grid, 3)).permute(0, 3, 1, 2)
    return F.interpolate(colors, size, mode="bilinear", align_corners=True)


class AutoEncoder(nn.Module):
  """Object discovery: images [B, 3, H, W] to slots and back.

  With a `background`, it paints slot 0, and the decoder the others in front of
  it, in colors of at most 1.05.
  """

  def __init__(self, encoder, slot_attention, decoder, background=None):
    super().__init__()
    self.encoder, self.decoder = encoder, decoder
    self.slot_attention, self.background = slot_attention, background

  def decode(self, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Slots [B, K, D] to images [B, K, 3, H, W], logits [B, K, 1, H, W]."""
    if self.background is None:
      return self.decoder(slots)
    images, logits = self.decoder(slots[:, 1:])
    behind = self.background(slots[:, 0], images.shape[-2:])
    images = torch.cat([behind[:, None], 1.05 * images.tanh()], dim=1)
    first = torch.full_like(images[:, :1, :1], self.background.logit)
    return images, torch.cat([first, logits], dim=1)

  def forward(
    self, images: Tensor, noise: Tensor | None = None
  ) -> dict[str, Tensor]:
    """Returns reconstruction, images, masks, slots and attention by name."""
    slots, attention = self.slot_attention(self.encoder(images), noise)
    slot_images, logits = self.decode(slots)
    masks = logits.softmax(dim=1)
    return {
      "reconstruction": (masks * slot_images).sum(dim=1),  # [B, 3, H, W]
      "images": slot_images,  # [B, K, 3, H, W]
      "masks": masks,  # [B, K, 1, H, W]
      "slots": slots,
      "attention": attention,
    }


class Head(nn.Module):
  """Slots [B, K, D] to property vectors [B, K, P] in [0, 1]."""

  def __init__(self, slot_size: int, num_properties: int, hidden_size: int):
    super().__init__()
    layers = (slot_size, hidden_size), (hidden_size, num_properties)
    self.dense = nn.ModuleList(nn.Linear(*layer) for layer in layers)

  def forward(self, slots: Tensor) -> Tensor:
    """Maps each slot."""
    return self.dense[1](F.relu(self.dense[0](slots))).sigmoid()


def attention_moments(attention: Tensor, height: int, width: int) -> Tensor:
  """Attention [B, K, H * W] to center, spread and area [B, K, 5]."""
  rows, columns = (torch.linspace(-1, 1, n) for n in (height, width))
  grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
  points = grid.reshape(-1, 2).to(attention)
  weights = attention**4
  weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-12)
  weights = weights[..., None]  # [B, K, N, 1]
  center = (weights * points).sum(dim=-2)
  variance = (weights * (points - center[:, :, None]) ** 2).sum(dim=-2)
  area = attention.mean(dim=-1, keepdim=True)
  roots = torch.cat([variance, area], dim=-1) + 1e-6
  return torch.cat([center, roots.sqrt()], dim=-1)


class Classifier(nn.Module):
  """Set prediction: images [B, 3, H, W] to property vectors [B, K, P]."""

  def __init__(self, encoder, slot_attention, head, attention_moments=False):
    super().__init__()
    self.encoder, self.slot_attention = encoder, slot_attention
    self.head, size = head, slot_attention.slot_size
    self.moments = nn.Linear(5, size, bias=False) if attention_moments else None

  def forward(
    self, images: Tensor, noise: Tensor | None = None
  ) -> dict[str, Tensor]:
    """Returns predictions, slots and attention by name."""
    slots, attention = self.slot_attention(self.encoder(images), noise)
    seen = slots
    if self.moments is not None:
      grid = self.encoder.feature_grid(*images.shape[-2:])
      seen = slots + self.moments(attention_moments(attention[:, -1], *grid))
    predictions = self.head(seen)
    return {"predictions": predictions, "slots": slots, "attention": attention}
