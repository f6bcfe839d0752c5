"""Stand-ins for two PyTorch ports: the same computation, the same names.

Written from their descriptions: lucidrains/slot-attention and
evelinehong/slot-attention-pytorch. Initial slots are given, not sampled.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Slots(nn.Module):
  """Either port's module; `scale` and `mlp` are named as there."""

  def __init__(self, dim, hidden, iters, lucidrains):
    super().__init__()
    self.iters, self.lucidrains = iters, lucidrains
    self.slots_mu = nn.Parameter(torch.randn(1, 1, dim))
    if lucidrains:
      self.slots_logsigma = nn.Parameter(torch.randn(1, 1, dim))
      self.mlp = nn.Sequential(
        nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim)
      )
    else:
      self.slots_sigma = nn.Parameter(torch.rand(1, 1, dim) + 0.1)
      self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
    for name in ("to_q", "to_k", "to_v"):
      setattr(self, name, nn.Linear(dim, dim))
    self.gru = nn.GRUCell(dim, dim)
    for name in ("norm_input", "norm_slots", "norm_pre_ff"):
      norm = nn.LayerNorm(dim)
      nn.init.normal_(norm.weight, 1.0, 0.3)
      nn.init.normal_(norm.bias, 0.0, 0.3)
      setattr(self, name, norm)

  def forward(self, inputs, noise):
    b, k, d = noise.shape
    sigma = self.slots_logsigma.exp() if self.lucidrains else self.slots_sigma
    slots = self.slots_mu + sigma * noise
    inputs = self.norm_input(inputs)
    keys, values = self.to_k(inputs), self.to_v(inputs)
    for _ in range(self.iters):
      queries = self.to_q(self.norm_slots(slots))
      dots = torch.einsum("bid,bjd->bij", queries, keys) * d**-0.5
      weights = dots.softmax(dim=1) + 1e-8
      weights = weights / weights.sum(dim=-1, keepdim=True)
      updates = torch.einsum("bjd,bij->bid", values, weights)
      slots = self.gru(updates.reshape(-1, d), slots.reshape(-1, d))
      slots = slots.reshape(b, k, d)
      hidden = self.norm_pre_ff(slots)
      if self.lucidrains:
        slots = slots + self.mlp(hidden)
      else:
        slots = slots + self.fc2(F.relu(self.fc1(hidden)))
    return slots


class _Position(nn.Module):
  def __init__(self, channels):
    super().__init__()
    self.embedding = nn.Linear(4, channels)

  def forward(self, x):  # [B, H, W, C]
    axes = [torch.linspace(0, 1, n) for n in x.shape[1:3]]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return x + self.embedding(torch.cat([grid, 1 - grid], dim=-1))


class _Encoder(nn.Module):
  def __init__(self, width):
    super().__init__()
    for i in range(4):
      layer = nn.Conv2d(width if i else 3, width, 5, padding=2)
      setattr(self, f"conv{i + 1}", layer)
    self.encoder_pos = _Position(width)

  def forward(self, x):
    for i in range(4):
      x = F.relu(getattr(self, f"conv{i + 1}")(x))
    return self.encoder_pos(x.permute(0, 2, 3, 1)).flatten(1, 2)


class _Decoder(nn.Module):
  def __init__(self, width):
    super().__init__()
    up = {"stride": 2, "padding": 2, "output_padding": 1}
    for i in range(1, 5):
      setattr(self, f"conv{i}", nn.ConvTranspose2d(width, width, 5, **up))
    self.conv5 = nn.ConvTranspose2d(width, width, 5, padding=2)
    self.conv6 = nn.ConvTranspose2d(width, 4, 3, padding=1)
    self.decoder_pos = _Position(width)

  def forward(self, x):
    x = self.decoder_pos(x).permute(0, 3, 1, 2)
    for i in range(1, 6):
      x = F.relu(getattr(self, f"conv{i}")(x))
    return self.conv6(x).permute(0, 2, 3, 1)


class AutoEncoder(nn.Module):
  """The autoencoder of evelinehong/slot-attention-pytorch."""

  def __init__(self, width, iters):
    super().__init__()
    self.encoder_cnn, self.decoder_cnn = _Encoder(width), _Decoder(width)
    self.fc1, self.fc2 = nn.Linear(width, width), nn.Linear(width, width)
    self.slot_attention = Slots(width, 128, iters, lucidrains=False)

  def forward(self, images, noise):
    x = self.encoder_cnn(images)
    x = F.layer_norm(x, x.shape[1:])
    x = self.fc2(F.relu(self.fc1(x)))
    slots = self.slot_attention(x, noise)
    grid = slots.flatten(0, 1)[:, None, None].repeat(1, 8, 8, 1)
    x = self.decoder_cnn(grid).unflatten(0, slots.shape[:2])
    recons, masks = x[..., :3], x[..., 3:].softmax(dim=1)
    return (recons * masks).sum(dim=1), recons, masks, slots
