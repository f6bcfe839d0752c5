"""Tests of `slot-attention predict`."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from slot_attention_jax import main as main_lib
from slot_attention_jax.data.images import pixels
from slot_attention_jax.predict import command_line, predictions, writer
from tests.predict import tiny


def save_images(directory, names, size=(40, 30)):
  directory.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(0)
  for name in names:
    array = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(array).save(directory / name)
  return directory


def run(model, images, output, *flags):
  command_line.main(
    [f"--model={model}", f"--images={images}", f"--output={output}", *flags]
  )


def test_discovery_of_a_folder(tmp_path, capsys):
  images = save_images(tmp_path / "in" / "images", ["a.png", "b.jpg", "b.png"])
  output = tmp_path / "out"
  run(tiny.WEIGHTS, images.parent, output, "--batch_size=2")
  assert sorted(p.name for p in output.iterdir()) == [
    "a",
    "b.jpg",
    "b.png",
    "overview.png",
    "overview.svg",
    "prediction.json",
  ]
  with np.load(output / "a" / "arrays.npz") as arrays:
    numbers = arrays["segments_in_image"]
    assert arrays["masks"].shape == (4, 35, 35)
    assert arrays["reconstruction"].shape == (35, 35, 3)
  ids = pixels.read_values(output / "a" / "segments.png")
  np.testing.assert_array_equal(ids, numbers)
  assert set(np.unique(ids)) <= {1, 2, 3, 4}
  slot = pixels.read_values(output / "a" / "slot_4.png")
  assert slot.shape == (30, 40, 4)
  about = json.loads((output / "prediction.json").read_text())
  assert (about["num_slots"], about["num_iterations"]) == (4, 2)
  printed = capsys.readouterr().out
  assert f"Look at {output / 'overview.png'}" in printed
  assert f"model='{tiny.WEIGHTS}'" in printed


@pytest.mark.thorough
def test_objects_of_an_image(tmp_path, capsys):
  weights = tiny.save_set_predictor(tmp_path / "tiny.safetensors")
  images = save_images(tmp_path, ["a.png"])
  output = tmp_path / "out"
  run(weights, images / "a.png", output, "--min_confidence=0")
  found = json.loads((output / "objects.json").read_text())
  assert found["pixels_from"] == "camera"
  with (output / "objects.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == len(found["images"]["a.png"]) == 3
  for row, expected in zip(rows, found["images"]["a.png"], strict=True):
    assert row == {"image": "a.png"} | {k: str(v) for k, v in expected.items()}
  confidence = [float(row["confidence"]) for row in rows]
  assert confidence == sorted(confidence, reverse=True)
  assert {*rows[0]} >= {"slot", "x", "y", "z", "size", "color", "pixel_x"}
  picture = pixels.read_values(output / "a" / "objects.png")
  assert picture.shape[0] > 390  # With a list below.
  assert "the mean camera" in capsys.readouterr().out


def test_no_objects_is_a_table_with_a_header(tmp_path):
  weights = tiny.save_set_predictor(tmp_path / "tiny.safetensors")
  images = save_images(tmp_path, ["a.png"])
  run(weights, images / "a.png", tmp_path / "out", "--min_confidence=1")
  (line,) = (tmp_path / "out" / "objects.csv").read_text().splitlines()
  assert line.startswith("image,slot,confidence,pixel_x,pixel_y,x,y,z,size,")


@pytest.mark.parametrize("value", ["1.1", "-0.5", "nan", "inf"])
def test_a_confidence_is_from_0_to_1(value, tmp_path, capsys):
  weights = tiny.save_set_predictor(tmp_path / "tiny.safetensors")
  images = save_images(tmp_path, ["a.png"])
  with pytest.raises(SystemExit, match="2"):
    run(weights, images, tmp_path / "out", f"--min_confidence={value}")
  assert "from 0 to 1 as --min_confidence, got" in capsys.readouterr().err
  assert not (tmp_path / "out").exists()


def test_slots_without_properties_have_no_confidence(tmp_path, capsys):
  images = save_images(tmp_path, ["a.png"])
  with pytest.raises(SystemExit, match="2"):
    run(tiny.WEIGHTS, images, tmp_path / "out", "--min_confidence=0.5")
  assert "Expected no --min_confidence" in capsys.readouterr().err
  assert not (tmp_path / "out").exists()


def break_nothing(tmp_path):
  return tiny.WEIGHTS, save_images(tmp_path / "in", ["a.png"]), tmp_path / "out"


def break_images(tmp_path):
  model, _, output = break_nothing(tmp_path)
  return model, tmp_path / "missing", output


def break_folder(tmp_path):
  model, images, output = break_nothing(tmp_path)
  (images / "a.png").rename(images / "a.txt")
  return model, images, output


def break_image(tmp_path):
  model, images, output = break_nothing(tmp_path)
  data = (images / "a.png").read_bytes()
  (images / "z.png").write_bytes(data[: len(data) // 2])
  return model, images, output


def break_model(tmp_path):
  _, images, output = break_nothing(tmp_path)
  return "clevr", images, output


def break_file(tmp_path):
  _, images, output = break_nothing(tmp_path)
  return tmp_path / "no.safetensors", images, output


def break_directory(tmp_path):
  model, images, output = break_nothing(tmp_path)
  (images / "z.png").mkdir()
  return model, images, output


def break_link(tmp_path):
  model, images, output = break_nothing(tmp_path)
  (images / "z.png").symlink_to("gone.png")
  return model, images, output


def break_model_variable(tmp_path):
  _, images, output = break_nothing(tmp_path)
  return "", images, output


def break_output_variable(tmp_path):
  model, images, _ = break_nothing(tmp_path)
  return model, images, ""


def break_output(tmp_path):
  model, images, output = break_nothing(tmp_path)
  save_images(output, ["mine.png"])
  return model, images, output


def break_output_path(tmp_path):
  model, images, output = break_nothing(tmp_path)
  output.write_text("mine")
  return model, images, output / "deeper"


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (break_output_path, "out/deeper: Not a directory"),
    (break_images, "found no .*missing"),
    (break_folder, "found none, but .'a.txt'."),
    (break_image, "z.png to be an image"),
    (break_directory, r"file at .*z\.png, found a directory\. Rename"),
    (break_link, r"z\.png, found a link to gone\.png, which does not exist"),
    (break_model_variable, "Expected a name out of .* got '', which"),
    (break_output_variable, "Expected a path as --output, got an empty one"),
    (break_model, "Expected a name out of"),
    (break_file, "found no .*no.safetensors"),
    (break_output, "Expected an empty or no directory"),
  ],
)
def test_bad_input_is_one_message_before_anything_is_compiled(
  make, message, tmp_path, capsys, monkeypatch
):
  def fail(*unused):
    raise AssertionError("compiled")

  monkeypatch.setattr(predictions, "_apply", fail)
  model, images, output = make(tmp_path)
  with pytest.raises(SystemExit) as exit_:
    run(model, images, output)
  assert exit_.value.code == 2
  error = capsys.readouterr().err
  assert error.startswith("Error: ")
  assert len(error.splitlines()) < 20
  assert re.search(message, error)
  assert "Traceback" not in error
  assert not (tmp_path / "out" / "overview.png").exists()


def test_a_seed_of_more_than_64_bits_is_refused_early(tmp_path, capsys):
  with pytest.raises(SystemExit) as exit_:
    run(*break_nothing(tmp_path), "--seed=99999999999999999999")
  assert exit_.value.code == 2
  assert "seed of at most 64 bits" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("names", "expected"),
  [
    (["a.png", "b.JPG", "c.d.png"], ["a", "b", "c.d"]),
    (["a.jpg", "a.png", "a.png.png"], ["a.jpg", "a.png", "a.png.png"]),
    (["a.png.png", "a.jpg", "a.png"], ["a.png", "a.jpg", "a.png_2"]),
    (["A.png", "a.png"], ["A", "a.png"]),
    (["...png", "..png"], ["...png", "..png"]),
    (["overview.svg.png", "prediction.json.png"],) * 2,
    (["Overview.PNG.png"], ["Overview.PNG.png"]),
  ],
)
def test_each_image_gets_a_directory_of_its_own_in_the_output(names, expected):
  assert writer.directory_names(names) == expected


def test_the_command_dispatches_to_it(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr("sys.argv", ["slot-attention", "predict", "--help"])
  with pytest.raises(SystemExit) as exit_:
    main_lib.entry_point()
  assert exit_.value.code == 0
  assert "usage: slot-attention predict" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["perdict"]])
def test_a_wrong_word_is_an_error_that_names_the_right_ones(
  words, monkeypatch, capsys
):
  monkeypatch.setattr("sys.argv", ["slot-attention", *words])
  with pytest.raises(SystemExit) as exit_:
    main_lib.entry_point()
  assert exit_.value.code == 2
  error = capsys.readouterr().err
  assert "'predict'" in error
  assert "--config=quickstart" in error


@pytest.mark.slow
@pytest.mark.parametrize("model", ["clevr6_small", "clevr_set_small"])
def test_the_weights_of_the_package(model, tmp_path):
  images = save_images(tmp_path / "in", ["a.png", "b.png"], (480, 320))
  run(model, images, tmp_path / "out")
  assert (tmp_path / "out" / "b" / "overlay.png").exists()
