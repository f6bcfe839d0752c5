"""Every key of a config, once, with its meaning, unit and default.

A config file starts from `base_config` and changes what its experiment needs.
The defaults are the paper's model and schedule of object discovery on CLEVR.
"""

import functools

import ml_collections

# Keys stay in the order in which they are declared here.
_Group = functools.partial(ml_collections.ConfigDict, sort_keys=False)

REQUIRED = "required"
"""What `train.initial_weights` is where the user must choose."""


def base_config() -> ml_collections.ConfigDict:
  """Returns the default config: object discovery with the paper's CLEVR model.

  Some values stand for "choose for me": `""`, `0`, `(0, 0)`, `"auto"`. What
  they choose is said beside the key.
  """
  config = _Group()
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
  data = _Group()
  # Prepared by TFDS: "clevr"; prepared by `slot_attention_jax.data.prepare`:
  # "clevr_with_masks", "multi_dsprites", "tetrominoes", "objects_room".
  # Synthetic: "clevr_scenes", "multi_dsprites_scenes", "tetrominoes_scenes".
  # "folder": PNG or JPEG files, see docs/own_data.md.
  data.name = "clevr"
  # The data directory of TFDS, "" for $TFDS_DATA_DIR or ~/tensorflow_datasets;
  # or the folder of images.
  data.data_dir = ""
  # Whether synthetic scenes stand in, with a warning, for a dataset that is not
  # found where no data_dir was named; if not, that is an error.
  data.fallback = True
  # (H, W) in pixels.
  data.resolution = (128, 128)
  # Crop before resizing: "paper" (the paper's window, scaled to the image),
  # "literal" (rows 29:221, columns 64:256 of any image), "center" (the largest
  # square; not for synthetic scenes) or "" (none). "auto": "paper" for CLEVR,
  # "center" for folders, none for the rest.
  data.crop = "auto"
  # Keep scenes of at most this many objects; 0: all.
  data.max_objects = 0
  # Where decoded images are cached; "": $SLOT_ATTENTION_JAX_CACHE or
  # ~/.cache/slot_attention_jax.
  data.cache_dir = ""
  # Whether decoded images are kept in device memory: "auto" (if they fit),
  # "yes" or "no".
  data.on_device = "auto"
  # Multi-dSprites: "colored_on_grayscale" (also ""), "colored_on_colored",
  # "binarized". Objects Room: "train" (also ""), "empty_room", "six_objects",
  # "identical_color". Synthetic CLEVR scenes: "" or "textured".
  data.variant = ""

  # Synthetic scenes, also where they stand in for a dataset.
  data.scenes = scenes = _Group()
  # Number of scenes in an evaluation split.
  scenes.num_eval = 320
  # Number of training scenes, the same for every seed, rendered once at the
  # start and kept in memory; 0: an endless stream of new scenes.
  scenes.num_train = 0
  # Fewest and most objects; (0, 0): as in the original dataset.
  scenes.num_objects = (0, 0)
  # CLEVR: only the combinations of shape and color of one condition of
  # CLEVR-CoGenT, "cogent_a" or "cogent_b"; "": all.
  scenes.held_out = ""
  # CLEVR: (H, W) of the camera's frame in pixels, before the crop.
  scenes.frame = (240, 320)
  # Tetrominoes: positions are multiples of this, 1 to 5, in pixels of a 35x35
  # image.
  scenes.tetrominoes_step = 1

  # Datasets that TFDS reads.
  data.tfds = prepared = _Group()
  # Multi-object datasets: the training split, as "train" or "records[0:1000]".
  prepared.train_split = "train"
  # CLEVR: number of training examples held out as the split "train_eval".
  prepared.num_train_eval = 512

  # A folder of images.
  data.folder = folder = _Group()
  # The training split: "train" or "all".
  folder.train_split = "train"
  return data


def _model() -> ml_collections.ConfigDict:
  """The architecture."""
  model = _Group()
  # Decides the layers of encoder and decoder, the keys from `encoder_channels`
  # to `decoder_strides`, for any data.resolution: "auto", or "strided1",
  # "strided2", "strided4", "strided8", a grid of features with that part of the
  # image's side; with "_wide", as "auto_wide", for a GPU. "": these keys count.
  # See docs/choosing.md.
  model.preset = ""
  # K, T and D.
  model.num_slots = 7
  model.num_iterations = 3
  model.slot_size = 64
  # Hidden size of the MLP that refines each slot; 0: no MLP.
  model.mlp_hidden_size = 128
  # Initial slots. "shared": samples of one Gaussian, as in the paper;
  # "background": slot 0 has its own Gaussian, the others share one; "per_slot":
  # of one Gaussian per slot, which fixes K; "learned": one learned vector per
  # slot, without noise.
  model.slot_init = "shared"
  # How an iteration changes the slots. "gru", as in the paper; "residual": the
  # attended values are added to them; "replace": they become the values.
  model.slot_update = "gru"
  # The attended values: their weighted "mean", as in the paper; their "sum"; or
  # "scaled_sum", times slots / inputs, with which spare slots can stay empty.
  model.normalization = "mean"
  # "unrolled": gradients flow through all iterations, as in the paper;
  # "implicit": through the last one only; "implicit_start": through the last
  # one, and from there directly to the initial slots.
  model.gradient = "unrolled"
  # Added to the attention before it is normalized over the inputs.
  model.epsilon = 1e-8
  # Encoder: one entry per layer.
  model.encoder_channels = (64, 64, 64, 64)
  model.encoder_kernel_sizes = (5, 5, 5, 5)
  model.encoder_strides = (1, 1, 1, 1)
  model.encoder_mlp_sizes = (64, 64)
  # Discovery: the grid (h, w) to which the decoder broadcasts each slot.
  model.broadcast_size = (8, 8)
  # Discovery: one entry per layer; kernel sizes and strides have one more, for
  # the output layer.
  model.decoder_channels = (64, 64, 64, 64, 64)
  model.decoder_kernel_sizes = (5, 5, 5, 5, 5, 3)
  model.decoder_strides = (2, 2, 2, 2, 1, 1)
  _add_background(model)
  _add_iterations(model)
  # Discovery: recompute the decoder in the backward pass, to save memory.
  model.remat_decoder = False
  # Set prediction: hidden size of the head.
  model.head_hidden_size = 64
  # Set prediction: the head also gets center, spread and area of each slot's
  # attention.
  model.attention_moments = False
  # Set prediction: weight of the position in the loss; other properties have 1.
  model.position_weight = 1.0
  # Matrix products in "float32" or "bfloat16"; parameters stay float32.
  model.precision = "float32"
  # How many of the T iterations the compiled loop unrolls at a time.
  model.unroll = 1
  return model


def _add_background(model: ml_collections.ConfigDict) -> None:
  """Slot 0 as the background, and weights in the loss of what slots cover."""
  # Discovery: slot 0 paints a smooth background and no object: an image
  # interpolated between this many points along each side. 0: slot 0 is decoded
  # like the others, as in the paper.
  model.background_grid = 0
  # Its alpha logit in every pixel, where the other slots' begin near 0. With 3,
  # slot 0 has most of the first images, and the others get what it cannot
  # paint; with 0, any slot may end up with the background.
  model.background_logit = 0.0
  # Discovery: weight in the loss of the mean absolute difference of what slot 0
  # paints and the image, wherever its mask is; 0.0: not in the loss, as in the
  # paper. With a `background_grid`, slot 0 then paints the background from the
  # first steps on, because objects are too small to move a median.
  model.background_weight = 0.0
  # Discovery: weight in the loss of the fraction of the image that is covered
  # by slots other than slot 0; 0.0: not in the loss, as in the paper.
  model.foreground_weight = 0.0
  # (begin, end) steps between which this weight rises linearly from 0; (0, 0):
  # it is the same at all steps. Before slots have found objects, the weight
  # would keep them from it.
  model.foreground_ramp = (0, 0)
  # (begin, end) steps between which it falls to 0 again; (0, 0): never. As long
  # as it lasts, objects that stand out little stay transparent.
  model.foreground_fall = (0, 0)
  # Discovery: weight in the loss of how much slots share pixels, those of slot
  # 0 left out if there is a `background_grid`; 0.0: not in the loss, as in the
  # paper. It ends that several slots paint the same object, each half
  # transparent; before slots have found objects, it would decide too early.
  model.overlap_weight = 0.0
  # (begin, end) steps between which this weight rises linearly from 0; (0, 0):
  # it is the same at all steps.
  model.overlap_ramp = (0, 0)


def _add_iterations(model: ml_collections.ConfigDict) -> None:
  """Numbers of iterations that differ in training."""
  # (fewest, most) iterations in training, drawn uniformly for each example;
  # (0, 0): always num_iterations.
  model.train_iterations = (0, 0)
  # The same in the first `early_steps` steps; (0, 0): train_iterations. With 1
  # among them, a slot's start decides what it takes, and the background, which
  # looks alike in all images, stays in one slot.
  model.early_iterations = (0, 0)
  model.early_steps = 0


def _optim() -> ml_collections.ConfigDict:
  """The optimizer and its schedule."""
  optim = _Group()
  # "adam", as in the paper, or "muon" (for the kernels; Adam for the rest).
  optim.name = "adam"
  # At step s: learning_rate * min(1, s / warmup_steps) * decay(s), where decay
  # is, for "exponential", as in the paper, decay_rate ** (s / decay_steps), and
  # for "cosine", (1 + cos(pi * min(1, s / decay_steps))) / 2.
  optim.schedule = "exponential"
  optim.learning_rate = 4e-4
  optim.warmup_steps = 10_000
  optim.decay_rate = 0.5
  optim.decay_steps = 100_000
  optim.b1 = 0.9
  optim.b2 = 0.999
  optim.eps = 1e-8
  # Gradients are clipped to this global norm; 0: no clipping, as in the paper.
  optim.clip_norm = 0.0
  return optim


def _train() -> ml_collections.ConfigDict:
  """The length and batch size of training."""
  train = _Group()
  # Images per step, over all devices.
  train.batch_size = 64
  train.num_steps = 500_000
  # Weights that the training starts from: a name of `pretrained_names()`, a
  # file of `export_weights`, the directory of a run, whose last checkpoint is
  # taken, or `hf://owner/name`. "": random ones. "required": not chosen yet, of
  # a config that is made for weights; an error in training. The images may be
  # larger than those of the weights, see `training/initial_weights.py`.
  train.initial_weights = ""
  # Most steps in one call of the compiled program, for data on the devices;
  # fewer where an evaluation or checkpoint is due in between. 0: 10 on GPU and
  # TPU, 1 on CPU.
  train.steps_per_call = 0
  # Minutes of wall time after which a process saves a checkpoint and ends; the
  # same command resumes. 0.0: no limit.
  train.max_minutes = 0.0
  # On CPU: compile all programs in less time, to run slower, which pays off in
  # a run of a few steps.
  train.quick_compilation = False
  return train


def _eval() -> ml_collections.ConfigDict:
  """Evaluation, during training and by `--mode=evaluate`."""
  evaluation = _Group()
  # "validation" or "test"; TFDS's CLEVR: also "train_eval"; multi-object
  # datasets: also "test_large", "records[A:B]", "clevr6/test" and the like;
  # folders: also "all".
  evaluation.split = "validation"
  evaluation.batch_size = 64
  # Steps between evaluations; one always follows the last step.
  evaluation.every_steps = 10_000
  # K and T at evaluation; 0: as in training.
  evaluation.num_slots = 0
  evaluation.num_iterations = 0
  # Seed of the slot noise.
  evaluation.seed = 0
  # Set prediction: distances of average precision, in the data's units.
  evaluation.thresholds = (float("inf"), 1.0, 0.5, 0.25, 0.125)
  # With --mode=evaluate: the "last" or the "best" checkpoint.
  evaluation.checkpoint = "last"
  return evaluation


def _checkpoint() -> ml_collections.ConfigDict:
  """What is saved, and when."""
  checkpoint = _Group()
  # Steps between checkpoints; each evaluation saves one too.
  checkpoint.every_steps = 5_000
  # How many of the last, and of the best, checkpoints are kept.
  checkpoint.keep = 2
  checkpoint.keep_best = 1
  # Short name of the metric that decides which is best; "": none is. "auto":
  # FG-ARI where the data have masks, else the MSE; AP for set prediction.
  checkpoint.best_metric = "mse"
  # "min" or "max"; not read for "auto".
  checkpoint.best_mode = "min"
  return checkpoint


def _logging() -> ml_collections.ConfigDict:
  """What a run reports."""
  log = _Group()
  # Steps between log lines.
  log.every_steps = 100
  # Examples in the image that each evaluation draws; 0: no image.
  log.num_images = 6
  # Where metrics and images go besides the log: "jsonl" (metrics.jsonl, always
  # written), "tensorboard" (needs nothing else), "clu" (TensorBoard by clu and
  # TensorFlow), "wandb", "trackio" (extras of these names).
  log.writers = ("jsonl", "tensorboard")
  # Older key: False takes "tensorboard" out of the writers.
  log.tensorboard = True
  return log
