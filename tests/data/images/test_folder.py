"""Folders of images: layouts, splits, masks, and what is wrong with one."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import slot_attention_jax as sa
from slot_attention_jax.data import cached_dataset, transforms
from slot_attention_jax.data.images import folder
from slot_attention_jax.training import checks

SIZE = (12, 16)


@pytest.fixture
def create(tmp_path, sharding):
  def create(directory, split="all", **kwargs):
    images = {k: kwargs.pop(k) for k in ("resolution", "crop") if k in kwargs}
    images = {"resolution": (8, 8), "cache_dir": tmp_path / "cache"} | images
    train = kwargs.pop("train", False)
    return folder.open(
      directory,
      split,
      transforms.ImageSpec(**images),
      cached_dataset.Batching(4, sharding, train=train),
      **kwargs,
    )

  return create


def save(path, array, **kwargs):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(array).save(path, **kwargs)


def gray(level, size=SIZE):
  return np.full((*size, 3), level, np.uint8)


def rows_of(dataset):
  batches = [dataset.batch(i) for i in range(dataset.num_batches)]
  joined = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  return {k: v[joined["valid"]] for k, v in joined.items()}


def levels_of(dataset):
  return np.round((rows_of(dataset)["image"][:, 0, 0, 0] + 1) * 127.5).tolist()


def test_images_come_in_the_order_of_their_names(create, tmp_path):
  root = tmp_path / "mine"
  for level, name in [(30, "c.png"), (10, "a.jpg"), (20, "b.JPEG")]:
    save(root / name, gray(level))
  (root / "notes.txt").write_text("not an image")
  save(root / ".hidden.png", gray(99))
  dataset = create(root)
  assert levels_of(dataset) == [10, 20, 30]
  assert dataset.info.name == "folder:mine"
  assert dataset.info.num_examples == 3
  assert not dataset.info.has_segmentation
  assert set(dataset.batch(0)) == {"image", "valid"}


def test_splits_follow_from_the_name_alone(create, tmp_path):
  root = tmp_path / "mine"
  for i in range(60):
    save(root / f"{i:02d}.png", gray(i))
  parts = {s: levels_of(create(root, s)) for s in folder.SPLITS}
  assert sorted(i for p in parts.values() for i in p) == list(range(60))
  assert len(parts["train"]) > 3 * len(parts["test"]) > 0
  assert parts["validation"]
  # More images move none from one split to another.
  for i in range(60, 70):
    save(root / f"{i:02d}.png", gray(i))
  for split, levels in parts.items():
    assert set(levels) <= set(levels_of(create(root, split)))


def test_folders_of_splits(create, tmp_path):
  for level, split in enumerate(folder.SPLITS):
    save(tmp_path / "mine" / split / "images" / "0.png", gray(level))
  for level, split in enumerate(folder.SPLITS):
    assert levels_of(create(tmp_path / "mine", split)) == [level]
  assert levels_of(create(tmp_path / "mine", "all")) == [0, 1, 2]


def test_training_is_endless_and_shuffled(create, tmp_path):
  for i in range(8):
    save(tmp_path / "mine" / f"{i}.png", gray(i))
  dataset = create(tmp_path / "mine", train=True)
  assert dataset.num_batches is None
  epoch = np.concatenate([dataset.batch(i)["image"] for i in range(2)])
  seen = np.round((epoch[:, 0, 0, 0] + 1) * 127.5).tolist()
  assert sorted(seen) == list(range(8))
  assert seen != list(range(8))


MASK = np.zeros(SIZE, np.uint8)
MASK[2:6, 2:6], MASK[6:12, 10:16] = 7, 200


@pytest.mark.parametrize(
  "kind", ["gray", "palette", "color", "alpha", "16 bit"]
)
def test_values_and_colors_of_masks_become_objects_from_1(
  kind, create, tmp_path
):
  palette = np.zeros((256, 3), np.uint8)
  palette[7], palette[200] = (0, 0, 255), (9, 0, 0)
  mask = {
    "gray": Image.fromarray(MASK),
    "palette": Image.fromarray(MASK).convert("P"),
    "color": Image.fromarray(palette[MASK]),
    "alpha": Image.fromarray(
      np.concatenate([palette[MASK], np.full((*SIZE, 1), 128, np.uint8)], -1)
    ),
    "16 bit": Image.fromarray(MASK.astype(np.uint16) * 256),
  }[kind]
  root = tmp_path / "mine"
  save(root / "images" / "0.jpg", gray(5))
  (root / "masks").mkdir()
  mask.save(root / "masks" / "0.png")
  dataset = create(root, resolution=SIZE)
  assert dataset.info.has_segmentation
  assert dataset.info.max_objects == 2
  ids = rows_of(dataset)["segmentation"][0]
  expected = np.searchsorted([0, 7, 200], MASK)
  assert ids.tolist() == expected.tolist()


def test_masks_are_cropped_and_resized_with_their_images(create, tmp_path):
  root = tmp_path / "mine"
  image = np.repeat((MASK == 200)[..., None] * np.uint8(255), 3, axis=-1)
  save(root / "images" / "0.png", image)
  save(root / "masks" / "0.png", MASK)
  rows = rows_of(create(root, resolution=(12, 12), crop="center"))
  white = rows["image"][0, ..., 0] > 0
  assert white.any()
  assert ((rows["segmentation"][0] == 2) == white).all()
  # Columns 2 to 13 of 16.
  assert ((MASK == 200)[:, 2:14] == white).all()


def test_max_objects_is_that_of_all_splits(create, tmp_path):
  for i, split in enumerate(folder.SPLITS):
    save(tmp_path / "mine" / split / "images" / "0.png", gray(0))
    ids = np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE) % (2 + i)
    save(tmp_path / "mine" / split / "masks" / "0.png", ids)
  for split in folder.SPLITS:
    assert create(tmp_path / "mine", split).info.max_objects == 3
  few = create(tmp_path / "mine", "all", max_objects=2)
  assert few.info.num_examples == 2
  with pytest.raises(ValueError, match=r"split 'test' .*max_objects is 2"):
    create(tmp_path / "mine", "test", max_objects=2)


def test_a_filter_without_masks_warns(create, tmp_path, caplog):
  save(tmp_path / "mine" / "0.png", gray(0))
  assert create(tmp_path / "mine", max_objects=2).info.num_examples == 1
  assert "data.max_objects=2 changes nothing" in caplog.text


def test_a_changed_image_is_read_again(create, tmp_path):
  path = tmp_path / "mine" / "0.png"
  save(path, gray(10))
  assert levels_of(create(tmp_path / "mine")) == [10]
  save(path, gray(200, (24, 24)))
  assert levels_of(create(tmp_path / "mine")) == [200]


def test_errors_of_folders(create, tmp_path):
  root = tmp_path / "mine"
  with pytest.raises(FileNotFoundError, match=r"found no .*mine"):
    create(root)
  root.mkdir()
  with pytest.raises(FileNotFoundError, match="PNG or JPEG files in"):
    create(root)
  save(root / "images" / "a.png", gray(0))
  with pytest.raises(ValueError, match="got 'dev'"):
    create(root, "dev")
  save(root / "images" / "b.png", gray(0))
  save(root / "masks" / "b.png", MASK)
  with pytest.raises(ValueError, match=r"1 of 2 have none.*image 'a'.*b\.png"):
    create(root)
  save(root / "masks" / "a.png", MASK[:4])
  with pytest.raises(ValueError, match=r"a.png to have the size .*\(4, 16\)"):
    create(root)
  noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
  save(root / "masks" / "a.png", noise[:, :, :])
  big = np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE)
  save(root / "images" / "a.png", gray(0, (24, 16)))
  save(root / "masks" / "a.png", np.concatenate([big, big + 999]))
  with pytest.raises(ValueError, match=r"at most 255 objects, got 383"):
    create(root)
  (root / "masks" / "a.png").write_bytes(b"not an image")
  with pytest.raises(ValueError, match=r"a.png to be an image"):
    create(root)
  save(root / "images" / "a.jpg", gray(0))
  with pytest.raises(ValueError, match=r"one image of the name 'a'"):
    create(root)
  # What failed left nothing behind that could be taken for a cache.
  assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]


@pytest.mark.parametrize(
  ("image", "mask"),
  [
    ("a.png", "masks/a.png"),
    ("a.PNG", "masks/a.PNG"),
    ("a.jpg", "masks/a.PNG"),
    ("a.png", "masks/a_mask.png"),
    ("a_mask.png", "masks/a_mask.png"),
    ("a.png", "Masks/a.png"),
    ("a.png", "mask/a_MASK.png"),
  ],
)
def test_masks_are_found_by_name_in_upper_and_lower_case(
  image, mask, create, tmp_path
):
  root = tmp_path / "mine"
  save(root / "images" / image, gray(0))
  save(root / mask, MASK)
  dataset = create(root, resolution=SIZE)
  assert rows_of(dataset)["segmentation"].max() == 2


@pytest.mark.parametrize(
  "mask",
  [
    "masks/a.jpg",
    "masks/a.tif",
    "masks/a.npy",
    "masks/a.png.png",
    "masks/sub/a.png",
    "masks/A.png",
    "masks/b.png",
  ],
)
def test_a_folder_of_masks_that_do_not_fit_is_an_error(mask, create, tmp_path):
  root = tmp_path / "mine"
  save(root / "images" / "a.png", gray(0))
  (root / mask).parent.mkdir(parents=True)
  (root / mask).touch()
  name = mask.split("/")[1]
  with pytest.raises(ValueError, match=rf"a mask in .* there are \['{name}'\]"):
    create(root)


def test_two_masks_of_an_image_and_two_folders_are_errors(create, tmp_path):
  root = tmp_path / "mine"
  save(root / "images" / "a.png", gray(0))
  save(root / "masks" / "a.png", MASK)
  save(root / "masks" / "a_mask.png", MASK)
  with pytest.raises(ValueError, match=r"one mask .*'a\.png', 'a_mask\.png'"):
    create(root)
  (root / "Masks").mkdir()
  with pytest.raises(ValueError, match=r"one folder .*'Masks', 'masks'"):
    create(root)


def save_png16(path, pixels, color_type):
  """Writes [H, W, C] uint16 as PNG, which Pillow does for gray alone."""

  def chunk(kind, data):
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc

  height, width, _ = pixels.shape
  rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
  header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", header)
    + chunk(b"IDAT", zlib.compress(rows))
    + chunk(b"IEND", b"")
  )


# Channels and color type of a PNG.
KINDS = {
  "gray": (1, 0), "gray, alpha": (2, 4), "rgb": (3, 2), "rgba": (4, 6),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_16_bits_keep_their_upper_8(kind, create, tmp_path):
  channels, color_type = KINDS[kind]
  ramp = np.linspace(0, 65535, 64).astype(np.uint16)
  pixels = np.tile(ramp[None, :, None], (64, 1, channels))
  if channels in (2, 4):
    pixels[..., -1] = 65535
  save_png16(tmp_path / "mine" / "a.png", pixels, color_type)
  image = rows_of(create(tmp_path / "mine", resolution=(64, 64)))["image"][0]
  levels = np.round((image + 1) * 127.5).astype(int)
  assert (levels == (ramp >> 8)[None, :, None]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_16_bits_keep_every_value_or_are_errors(
  kind, create, tmp_path
):
  channels, color_type = KINDS[kind]
  ids = np.arange(4, dtype=np.uint16).repeat(4)
  pixels = np.tile(ids[None, :, None], (12, 1, channels))
  root = tmp_path / "mine"
  save(root / "images" / "a.png", gray(0))
  save_png16(root / "masks" / "a.png", pixels, color_type)
  if kind == "gray":
    rows = rows_of(create(root, resolution=SIZE))
    assert (rows["segmentation"][0] == ids).all()
  else:
    with pytest.raises(ValueError, match=r"a.png to have gray .* 16 bits"):
      create(root)


def test_folders_of_one_name_do_not_share_a_cache(create, tmp_path):
  for place, level in (("x", 20), ("y", 200)):
    root = tmp_path / place / "mine"
    save(root / "0.png", gray(level))
    os.utime(root / "0.png", (1, 1))
    size = (root / "0.png").stat().st_size
  assert size == (tmp_path / "x" / "mine" / "0.png").stat().st_size
  assert levels_of(create(tmp_path / "x" / "mine")) == [20]
  assert levels_of(create(tmp_path / "y" / "mine")) == [200]


def folder_config(root, best_metric):
  config = sa.load_config("quickstart:debug")
  config.data.name = "folder"
  config.data.data_dir = str(root)
  config.checkpoint.best_metric = best_metric
  return config


@pytest.mark.parametrize("masks", [False, True])
def test_the_best_metric_is_checked_before_anything_is_decoded(masks, tmp_path):
  root = tmp_path / "mine"
  for name in ("a.png", "b.png"):
    path = root / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no image")
    if masks:
      save(root / "masks" / name, np.zeros(SIZE, np.uint8))
  checks.check(folder_config(root, "mse"), 1)
  with pytest.raises(ValueError, match=r"best_metric out of .*got 'ap'"):
    checks.check(folder_config(root, "ap"), 1)
  if masks:
    checks.check(folder_config(root, "fg_ari"), 1)
  else:
    with pytest.raises(ValueError, match=r"got 'fg_ari'"):
      checks.check(folder_config(root, "fg_ari"), 1)
