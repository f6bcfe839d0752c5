"""Every key of a config, once, with its meaning and unit."""

import ast
from collections.abc import Callable, Mapping

import ml_collections

from slot_attention_jax import models
from slot_attention_jax.runtime import config_aliases


def base() -> ml_collections.ConfigDict:
  """The default config: object discovery with the paper's CLEVR model."""
  config = ml_collections.ConfigDict()
  # "discovery" (autoencoder) or "set_prediction" (classifier).
  config.task = "discovery"
  # Seed of parameters, slot noise, order and scenes of training.
  config.seed = 0

  config.data = data = ml_collections.ConfigDict()
  # As prepared by TFDS: "clevr"; by `slot_attention_jax.data.prepare`:
  # "clevr_with_masks", "multi_dsprites", "tetrominoes", "objects_room".
  # Rendered: "clevr_scenes", "multi_dsprites_scenes", "tetrominoes_scenes".
  # "folder": PNG or JPEG files, see docs/own_data.md.
  data.name = "clevr"
  # TFDS data directory, "": $TFDS_DATA_DIR or ~/tensorflow_datasets; or the
  # folder of images.
  data.data_dir = ""
  # Where there are no data and none were named: use the package's own scenes
  # of the kind, with a warning; False: an error.
  data.fallback = True
  # (H, W) in pixels.
  data.resolution = (128, 128)
  # "paper" (its window scaled to the image), "literal" (the window 29:221,
  # 64:256 whatever the image), "center" (the largest square; not rendered) or
  # "" (the whole image). "auto": "paper" for CLEVR, "center" for folders, else
  # "".
  data.crop = "auto"
  # CLEVR: keep scenes of at most so many objects; 0: all.
  data.max_objects = 0
  # Where decoded images are kept; "": $SLOT_ATTENTION_JAX_CACHE or
  # ~/.cache/slot_attention_jax.
  data.cache_dir = ""
  # Keep the decoded images in device memory: "auto" (if they fit), "yes",
  # "no".
  data.on_device = "auto"
  # Multi-dSprites: "colored_on_grayscale" (also ""), "colored_on_colored",
  # "binarized". Objects Room: "train" (also ""), "empty_room", "six_objects",
  # "identical_color". Synthetic CLEVR scenes: "" or "textured".
  data.variant = ""

  # Synthetic scenes, also where they stand in for data that were not found.
  data.scenes = scenes = ml_collections.ConfigDict()
  # Scenes of an evaluation split.
  scenes.num_eval = 320
  # Train on so many scenes, the same for every seed, rendered at the start and
  # kept in memory; 0: an endless stream of new ones.
  scenes.num_train = 0
  # Fewest and most objects; (0, 0): as in the original data.
  scenes.num_objects = (0, 0)
  # CLEVR: "cogent_a" or "cogent_b" keep to the combinations of shape and color
  # of that condition of CLEVR-CoGenT; "": all.
  scenes.held_out = ""
  # CLEVR: (H, W) of the camera's frame, before the crop.
  scenes.frame = (240, 320)
  # Tetrominoes: positions are multiples of it, in pixels of 35, 1 to 5.
  scenes.tetrominoes_step = 1

  # Data that TFDS reads.
  data.tfds = prepared = ml_collections.ConfigDict()
  # Multi-object datasets: the split that is trained on, as "train" or
  # "records[0:1000]".
  prepared.train_split = "train"
  # CLEVR: training examples held out as the split "train_eval".
  prepared.num_train_eval = 512

  # A folder of images.
  data.folder = folder = ml_collections.ConfigDict()
  # The split that is trained on: "train" or "all".
  folder.train_split = "train"

  config.model = model = ml_collections.ConfigDict()
  # K, T, D.
  model.num_slots = 7
  model.num_iterations = 3
  model.slot_size = 64
  # Hidden width of the slots' residual MLP; 0: no MLP.
  model.mlp_hidden_size = 128
  # "shared": all slots start from one Gaussian, as in the paper; "per_slot":
  # from one each, which fixes K; "learned": from a vector each, without noise.
  model.slot_start = "shared"
  # "gru", as in the paper; "residual": updates are added to the slots;
  # "replace": they are the new slots.
  model.slot_update = "gru"
  # Of the values: weighted "mean", as in the paper, or "sum".
  model.normalization = "mean"
  # "unrolled": through all iterations, as in the paper; "implicit": through the
  # last one alone; "implicit_start": also straight from there to the start.
  model.gradient = "unrolled"
  # Added to the attention before it is normalised over the inputs.
  model.epsilon = 1e-8
  # One entry per layer.
  model.encoder_channels = (64, 64, 64, 64)
  model.encoder_kernel_sizes = (5, 5, 5, 5)
  model.encoder_strides = (1, 1, 1, 1)
  model.encoder_mlp_sizes = (64, 64)
  # Discovery: grid that a slot is repeated on, then one entry per layer;
  # kernels and strides have one more, for the output layer.
  model.broadcast_size = (8, 8)
  model.decoder_channels = (64, 64, 64, 64, 64)
  model.decoder_kernel_sizes = (5, 5, 5, 5, 5, 3)
  model.decoder_strides = (2, 2, 2, 2, 1, 1)
  # Discovery: recompute the decoder in the backward pass, to save memory.
  model.remat_decoder = False
  # Set prediction: width of the head's hidden layer.
  model.head_hidden_size = 64
  # Set prediction: weight of the position in the loss; the others have 1.
  model.position_weight = 1.0
  # "float32" or "bfloat16" matrix products; parameters stay float32.
  model.precision = "float32"
  # Iterations per step of the compiled loop over T.
  model.unroll = 1

  config.optim = optim = ml_collections.ConfigDict()
  # "adam", as in the paper, or "muon" (for the kernels).
  optim.name = "adam"
  # lr(s) = learning_rate * min(1, s / warmup_steps) * decay(s), s in updates.
  # "exponential", as in the paper: decay_rate ** (s / decay_steps); "cosine":
  # (1 + cos(pi * min(1, s / decay_steps))) / 2.
  optim.schedule = "exponential"
  optim.learning_rate = 4e-4
  optim.warmup_steps = 10_000
  optim.decay_rate = 0.5
  optim.decay_steps = 100_000
  optim.b1 = 0.9
  optim.b2 = 0.999
  optim.eps = 1e-8
  # Largest global norm of the gradient; 0: no clipping, as in the paper.
  optim.clip_norm = 0.0

  config.train = train = ml_collections.ConfigDict()
  # Images per update, over all devices.
  train.batch_size = 64
  # Updates.
  train.num_steps = 500_000
  # Updates in one call of the compiled step, for data on the devices: at most
  # so many, fewer where evaluations and checkpoints are due in between. 0: 10
  # on GPU and TPU, 1 on CPU.
  train.steps_per_call = 0
  # Minutes of wall time after which a process saves a checkpoint and ends,
  # between two calls of the step; the same command goes on from there. 0.0: no
  # limit.
  train.max_minutes = 0.0

  config.eval = evaluation = ml_collections.ConfigDict()
  # "validation", "test"; TFDS's CLEVR also "train_eval", sets with masks
  # "test_large", "records[A:B]", "clevr6/test" and the like, folders "all".
  evaluation.split = "validation"
  evaluation.batch_size = 64
  # Updates between evaluations; one always follows the last update.
  evaluation.every_steps = 10_000
  # K and T at evaluation; 0: as in training.
  evaluation.num_slots = 0
  evaluation.num_iterations = 0
  # Seed of the slot noise.
  evaluation.seed = 0
  # Set prediction: distances of average precision, in the data's units.
  evaluation.thresholds = (float("inf"), 1.0, 0.5, 0.25, 0.125)
  # --mode=evaluate: "last" or "best" checkpoint.
  evaluation.checkpoint = "last"

  config.checkpoint = checkpoint = ml_collections.ConfigDict()
  # Updates between checkpoints; each evaluation makes one too.
  checkpoint.every_steps = 5_000
  # Last and best checkpoints that are kept.
  checkpoint.keep = 2
  checkpoint.keep_best = 1
  # Short name of the metric that decides the best; "": none is kept.
  checkpoint.best_metric = "mse"
  checkpoint.best_mode = "min"

  config.logging = log = ml_collections.ConfigDict()
  # Updates between log lines.
  log.every_steps = 100
  # Examples on the picture that an evaluation draws; 0: no picture.
  log.num_images = 6
  # Also write TensorBoard files, where TensorFlow is installed.
  log.tensorboard = True
  return config


def use_autoencoder(config: ml_collections.ConfigDict, preset: str) -> None:
  """Sets the keys of one of the paper's object-discovery architectures."""
  preset = dict(models.AUTOENCODER_PRESETS[preset])
  config.data.resolution = preset.pop("resolution")
  config.model.update(preset)


def use_classifier(config: ml_collections.ConfigDict, preset: str) -> None:
  """Sets the keys of the paper's set-prediction architecture."""
  preset = dict(models.CLASSIFIER_PRESETS[preset])
  # The width of the output follows from the data.
  del preset["num_properties"]
  config.model.update(preset)


def use_strided_autoencoder(
  config: ml_collections.ConfigDict, size: int, stride: int, channels: int
) -> None:
  """Sets an autoencoder that works on a coarser grid than the image.

  With the paper's 128 pixels and 64 channels, stride 4 takes a tenth of the
  FLOP of the paper's model, whose slots see every pixel and whose decoder has
  two more layers at full resolution.

  Args:
    config: changed in place.
    size: H and W of the images in pixels, a multiple of the stride.
    stride: 2 or 4, of the encoder and the decoder as a whole.
    channels: of all convolutions.
  """
  second = stride // 2
  config.data.resolution = (size, size)
  config.model.encoder_channels = (channels,) * 3
  config.model.encoder_kernel_sizes = (6, 5, 5)
  config.model.encoder_strides = (2, second, 1)
  config.model.encoder_mlp_sizes = (128, 64)
  config.model.broadcast_size = (size // stride, size // stride)
  config.model.decoder_channels = (channels,) * 2
  config.model.decoder_kernel_sizes = (5, 6 if second == 2 else 5, 6)
  config.model.decoder_strides = (1, second, 2)


def train_briefly(config: ml_collections.ConfigDict, num_steps: int) -> None:
  """Sets what makes few updates go far: Muon, a high rate, a cosine to 0."""
  config.model.unroll = 3
  config.optim.name = "muon"
  config.optim.learning_rate = 2e-3
  config.optim.warmup_steps = num_steps // 40
  config.optim.schedule = "cosine"
  config.optim.decay_steps = num_steps
  config.optim.clip_norm = 1.0
  config.train.num_steps = num_steps
  config.eval.every_steps = num_steps // 10
  config.checkpoint.every_steps = num_steps // 10


def use_masks(
  config: ml_collections.ConfigDict, name: str, variant: str = ""
) -> None:
  """Sets a set with masks as the data, and nothing in its place."""
  config.data.name = name
  config.data.variant = variant
  config.data.fallback = False
  if config.task == "discovery":
    config.checkpoint.best_metric = "fg_ari"
    config.checkpoint.best_mode = "max"


def as_it_is(config: ml_collections.ConfigDict) -> None:
  """A recipe that is what its file begins with, as `paper` is."""
  del config


def shrink(config: ml_collections.ConfigDict) -> None:
  """Makes any config a `:debug` one: the same path, in under a minute."""
  config.train.batch_size = 4
  config.train.num_steps = 2
  config.eval.batch_size = 4
  config.eval.every_steps = 2
  config.checkpoint.every_steps = 1
  config.logging.every_steps = 1
  config.logging.num_images = 2
  config.data.scenes.num_eval = 6
  config.data.scenes.num_train = min(8, config.data.scenes.num_train)
  config.data.tfds.num_train_eval = 2
  config.optim.warmup_steps = 2


def apply_arguments(
  config: ml_collections.ConfigDict,
  arg: str,
  recipes: Mapping[str, Callable[[ml_collections.ConfigDict], None]]
  | None = None,
) -> ml_collections.ConfigDict:
  """Applies what stands behind the colon of `--config=FILE:ARG`.

  Args:
    config: the config of the file, changed in place.
    arg: comma-separated names of recipes, `debug` and typed `key=value`
      overrides, as `fast,model.num_slots=5,data.resolution=(64, 64)`, applied
      in this order; values are read as the type of the key they replace.
    recipes: by name, what changes a config into each of the file's recipes.

  Returns:
    The config, locked.

  Raises:
    ValueError: on an unknown preset or key.
  """
  presets = {**(recipes or {}), "debug": shrink}
  config.lock()
  for item in _split(arg):
    if item in presets:
      presets[item](config)
    elif "=" in item:
      key, value = item.split("=", 1)
      _override(config, key.strip(), value.strip())
    else:
      raise ValueError(
        f"Expected one of {sorted(presets)} or key=value, got {item!r}."
      )
  return config


def _split(arg: str) -> list[str]:
  """Splits at commas that are not inside brackets."""
  items, depth, start = [], 0, 0
  for i, char in enumerate(arg + ","):
    depth += (char in "([") - (char in ")]")
    if char == "," and not depth:
      items.append(arg[start:i].strip())
      start = i + 1
  if depth:
    raise ValueError(f"Expected brackets that match, got {arg!r}.")
  return [item for item in items if item]


def _override(config, key, text):
  group, _, name = key.rpartition(".")
  config_aliases.check_keys([key])
  holder = config
  for part in filter(None, group.split(".")):
    known = isinstance(holder, ml_collections.ConfigDict)
    holder = holder.get(part) if known else None
  known = isinstance(holder, ml_collections.ConfigDict) and name in holder
  if not known or isinstance(holder[name], ml_collections.ConfigDict):
    raise ValueError(f"Expected a key of the config, got {key!r}.")
  old = holder[name]
  if isinstance(old, str):
    holder[name] = text
    return
  try:
    value = ast.literal_eval(text)
  except (SyntaxError, ValueError):
    value = None
  if isinstance(old, float) and type(value) is int:
    value = float(value)
  if type(value) is not type(old):
    raise ValueError(
      f"Expected {key} of type {type(old).__name__}, got {text!r}."
    )
  holder[name] = value
