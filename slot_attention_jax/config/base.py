"""Every key of a config, once, with its meaning, unit and default.

A config file starts from `base_config` and changes what its experiment needs.
The defaults are the paper's model and schedule of object discovery on CLEVR.
"""

import ml_collections


def base_config() -> ml_collections.ConfigDict:
  """Returns the default config: object discovery with the paper's CLEVR model.

  Some values stand for "choose for me": `""`, `0`, `(0, 0)`, `"auto"`. What
  they choose is said beside the key.
  """
  config = ml_collections.ConfigDict()
  # "discovery" (autoencoder) or "set_prediction" (classifier).
  config.task = "discovery"
  # Seed of the parameters, the slot noise, the order of examples and the
  # training scenes.
  config.seed = 0
  config.data = _data()
  config.model = _model()
  config.optim = _optim()
  config.train = _train()
  config.eval = _eval()
  config.checkpoint = _checkpoint()
  config.logging = _logging()
  return config


def _data() -> ml_collections.ConfigDict:
  """What is trained and evaluated on."""
  data = ml_collections.ConfigDict()
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
  return data


def _model() -> ml_collections.ConfigDict:
  """The architecture."""
  model = ml_collections.ConfigDict()
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
  return model


def _optim() -> ml_collections.ConfigDict:
  """The optimizer and its schedule."""
  optim = ml_collections.ConfigDict()
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
  return optim


def _train() -> ml_collections.ConfigDict:
  """The length and batch size of training."""
  train = ml_collections.ConfigDict()
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
  return train


def _eval() -> ml_collections.ConfigDict:
  """Evaluation, during training and by `--mode=evaluate`."""
  evaluation = ml_collections.ConfigDict()
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
  return evaluation


def _checkpoint() -> ml_collections.ConfigDict:
  """What is saved, and when."""
  checkpoint = ml_collections.ConfigDict()
  # Updates between checkpoints; each evaluation makes one too.
  checkpoint.every_steps = 5_000
  # Last and best checkpoints that are kept.
  checkpoint.keep = 2
  checkpoint.keep_best = 1
  # Short name of the metric that decides the best; "": none is kept.
  checkpoint.best_metric = "mse"
  checkpoint.best_mode = "min"
  return checkpoint


def _logging() -> ml_collections.ConfigDict:
  """What a run reports."""
  log = ml_collections.ConfigDict()
  # Updates between log lines.
  log.every_steps = 100
  # Examples on the picture that an evaluation draws; 0: no picture.
  log.num_images = 6
  # Also write TensorBoard files, where TensorFlow is installed.
  log.tensorboard = True
  return log
