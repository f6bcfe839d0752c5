"""What the names of metrics mean, in words.

Short names, as `fg_ari`; those of the attention end in `_attention`.
"""

OF_ATTENTION = "_attention"
"""Ends the name of a metric of the attention, not of the decoder's masks."""
# Short names, their units and whether more is better.
_MEANING = {
  "fg_ari": "adjusted Rand index of the foreground's pixels; at most 1, higher",
  "ari": "adjusted Rand index of all pixels; at most 1, higher",
  "miou": "IoU of objects with segments matched one-to-one; 0 to 1, higher",
  "mbo": "best IoU of objects with any segment; 0 to 1, higher",
  "covering": "best IoU, weighted by the objects' pixels; 0 to 1, higher",
  "slots_in_use": "slots with 0.1 % of the pixels or more, of K",
  "background_split": "share of images whose background two or more slots "
  "share, with 5 % of it each; lower",
  "mse": "mean squared error on [-1, 1]; lower",
  "psnr": "peak signal-to-noise ratio in dB, clipped; higher",
  "loss": "Hungarian Huber loss; lower",
  "distance": "distance of matched positions in the data's units; lower",
  "recall": "share of objects whose match has a confidence above 0.5; higher",
  "precision": "share of such predictions that are matched to objects; higher",
  "count_accuracy": "share of images with as many of them as objects; higher",
}


def order(short: str) -> tuple[int, float, str]:
  """A key to sort by: average precision, then metrics as listed, then others.

  Args:
    short: name of a metric.

  Returns:
    The key.

  Example:
    >>> from slot_attention_jax.metrics import names
    >>> sorted(["mse", "mine", "ap_1", "ap_inf", "ari"], key=names.order)
    ['ap_inf', 'ap_1', 'ari', 'mse', 'mine']
  """
  if short.startswith("ap_"):
    return -1, -float(short.removeprefix("ap_")), short
  known = list(_MEANING)
  place = known.index(short) if short in known else len(known)
  return place, 0.0, short


def direction(short: str) -> int:
  """1 if more of a metric is better, -1 if less is, 0 if neither.

  Args:
    short: its short name.

  Returns:
    The direction.

  Example:
    >>> from slot_attention_jax.metrics import names
    >>> [names.direction(m) for m in ("fg_ari", "mse", "slots_in_use")]
    [1, -1, 0]
  """
  words = meaning(short.removesuffix(OF_ATTENTION))
  return {"higher": 1, "lower": -1}.get(words.rpartition(" ")[2], 0)


def meaning(short: str) -> str:
  """What a metric is, in words; empty if it is none of the package's.

  Args:
    short: its short name.

  Returns:
    The words; last, if more or less is better, `higher` or `lower`.

  Example:
    >>> from slot_attention_jax.metrics import names
    >>> names.meaning("within_1")
    "share of objects within 1 (data's units); 0 to 1, higher"
  """
  if short == "accuracy_all":
    return "share of objects with all properties right; 0 to 1, higher"
  for prefix, words in (
    ("ap_", "average precision at distance {} (data's units); 0 to 1, higher"),
    ("accuracy_", "share of objects whose {} is right; 0 to 1, higher"),
    ("within_", "share of objects within {} (data's units); 0 to 1, higher"),
  ):
    if short.startswith(prefix):
      return words.format(short.removeprefix(prefix))
  return _MEANING.get(short, "")
