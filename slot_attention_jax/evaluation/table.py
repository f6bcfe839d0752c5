"""An evaluation as Markdown: what was measured, and under which conditions."""

from typing import Any

_OF_ATTENTION = "_attention"
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

# Of conditions whose key in the file says something else to a reader.
_TITLES = {"own_scenes": "synthetic scenes"}


def markdown(content: dict[str, Any]) -> str:
  """Formats an evaluation as Markdown tables.

  Args:
    content: of `evaluation.json`.

  Returns:
    The text.
  """
  conditions = {
    "steps": content["step"],
    "K, T": f"{content['num_slots']}, {content['num_iterations']}",
    **content["protocol"],
  }
  lines = [
    f"# {conditions['model']} on {conditions['data']}/{conditions['split']}",
    "",
  ]
  cells: dict[str, list[str]] = {}
  for name, value in content["metrics"].items():
    error = content["standard_errors"].get(name)
    shown = f"{value:.4f}" + ("" if error is None else f" +- {error:.4f}")
    short = name.rsplit("/", 1)[-1]
    kinds = cells.setdefault(short.removesuffix(_OF_ATTENTION), ["", ""])
    kinds[short.endswith(_OF_ATTENTION)] = shown
  both = any(attention for _, attention in cells.values())
  titles = ["decoder's masks", "attention"] if both else ["value"]
  lines.append(f"| metric | {' | '.join(titles)} | what it is |")
  lines.append("|---" * (2 + len(titles)) + "|")
  for short in sorted(cells, key=order):
    values = cells[short][: len(titles)]
    lines.append(f"| {short} | {' | '.join(values)} | {meaning(short)} |")
  lines += ["", "| conditions | |", "|---|---|"]
  for name, value in conditions.items():
    if value is not None and value != "":
      title = _TITLES.get(name, name.replace("_", " "))
      lines.append(f"| {title} | {value} |")
  return "\n".join(lines) + "\n"


def order(short: str) -> tuple[int, float, str]:
  """Average precision first, then in the order above, then by name."""
  if short.startswith("ap_"):
    return -1, -float(short.removeprefix("ap_")), short
  names = list(_MEANING)
  place = names.index(short) if short in names else len(names)
  return place, 0.0, short


def direction(short: str) -> int:
  """1 if more of a metric is better, -1 if less is, 0 if neither.

  Args:
    short: its short name.

  Returns:
    The direction.

  Example:
    >>> from slot_attention_jax.evaluation import table
    >>> [table.direction(m) for m in ("fg_ari", "mse", "slots_in_use")]
    [1, -1, 0]
  """
  words = meaning(short.removesuffix(_OF_ATTENTION))
  return {"higher": 1, "lower": -1}.get(words.rpartition(" ")[2], 0)


def meaning(short: str) -> str:
  """What a metric is, in words; empty if it is none of the package's."""
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
