"""Tests of the ablations: what changes, what is shown, what fails."""

import json

import pytest

from experiments import reproduce, study_ablations

# A model of some thousand parameters on the package's own scenes.
TINY = (
  "debug,train.num_steps=2,data.resolution=(8, 8),model.num_slots=3,"
  "model.slot_size=4,model.mlp_hidden_size=4,model.encoder_channels=(4,),"
  "model.encoder_kernel_sizes=(3,),model.encoder_strides=(1,),"
  "model.encoder_mlp_sizes=(4,),model.broadcast_size=(8, 8),"
  "model.decoder_channels=(4,),model.decoder_kernel_sizes=(3, 3),"
  "model.decoder_strides=(1, 1),logging.num_images=0"
)


def result_of(seed, failure=None, **metrics):
  return {
    "seed": seed,
    "failure": failure,
    "step": 7,
    "minutes": 1.25,
    "data": "squares/test",
    "metrics": metrics,
  }


def row_of(variant, *results, change="", same=False):
  return {
    "variant": variant,
    "change": change,
    "same": same,
    "updates": 1000,
    "seeds": list(results),
  }


ROWS = [
  row_of(
    "baseline",
    result_of(0, fg_ari=0.9, mse=0.1),
    result_of(1, fg_ari=0.8, mse=0.3),
    same=True,
  ),
  row_of(
    "no_gru",
    result_of(0, fg_ari=0.5, mse=0.2),
    result_of(1, "failed: nan | at 2"),
    change="model.slot_update=residual",
  ),
  row_of(
    "no_mlp",
    result_of(0, "failed"),
    result_of(1, "at 5 of 9"),
    change="model.mlp_hidden_size=0",
  ),
]


@pytest.mark.parametrize("name", study_ablations.VARIANTS)
def test_a_variant_changes_one_key_of_the_model(name):
  task = reproduce.TASKS["quickstart"]
  recipe = reproduce.load_config(task, 0, "")
  key, value = study_ablations.change_of(name, recipe)
  changed = reproduce.load_config(task, 0, f"{key}={value}").to_dict()
  assert changed["model"].pop(key.removeprefix("model.")) == value
  expected = recipe.to_dict()
  del expected["model"][key.removeprefix("model.")]
  assert changed == expected


def test_slots_are_relative_to_the_recipe():
  recipe = reproduce.load_config(
    reproduce.TASKS["quickstart"], 0, "model.num_slots=9"
  )
  got = [
    study_ablations.change_of(name, recipe)
    for name in ("slots_fewer", "slots_more")
  ]
  assert got == [("model.num_slots", 8), ("model.num_slots", 11)]


def test_the_table_shows_every_seed_and_the_mean_of_those_that_ended():
  lines = study_ablations.table(ROWS, ("fg_ari",)).splitlines()
  assert len(lines) == 2 + len(ROWS)
  cells = [
    [c.strip() for c in line.strip("|").split("|")]
    for line in (lines[0], *lines[2:])
  ]
  assert {len(c) for c in cells} == {8}
  assert cells[0][5] == "mse"
  assert cells[1][1:] == [
    "the recipe as it is",
    "90.0 / 80.0",
    "85.0 +- 7.1 (2 of 2)",
    "+0.0",
    "0.2000",
    "1,000",
    "1.2 / 1.2",
  ]
  assert cells[2][1:6] == [
    "`model.slot_update=residual`",
    "50.0 / failed: nan / at 2",
    "50.0 (1 of 2)",
    "-35.0",
    "0.2000",
  ]
  assert cells[3][2:6] == ["failed / at 5 of 9", "none", "none", "none"]


def test_bars_are_the_means_and_dots_the_seeds(tmp_path):
  path = tmp_path / "new" / "figure.png"
  figure = study_ablations.draw(ROWS, "squares/test, quickstart", path)
  assert path.read_bytes().startswith(b"\x89PNG")
  assert figure.get_suptitle() == "squares/test, quickstart"
  fg_ari, mse = figure.axes
  widths = [bar.get_width() for bar in fg_ari.patches]
  assert widths == pytest.approx([0.85, 0.5])
  assert [bar.get_width() for bar in mse.patches] == pytest.approx([0.2, 0.2])
  *dots, baseline = fg_ari.lines
  assert [list(d.get_xdata()) for d in dots] == [[0.9, 0.8], [0.5]]
  assert list(baseline.get_xdata()) == pytest.approx([0.85, 0.85])
  labels = [label.get_text() for label in fg_ari.get_yticklabels()]
  assert labels == ["baseline", "no_gru", "no_mlp"]


def test_variants_are_trained_once_and_evaluated(tmp_path, capsys):
  output, figure = tmp_path / "rows.md", tmp_path / "figure.png"
  result = study_ablations.main(
    [
      "--task=quickstart",
      "--seeds=3",
      "--variants=no_gru,per_slot_start",
      f"--set={TINY}",
      f"--workdir={tmp_path / 'runs'}",
      "--num_scenes=4",
      f"--output={output}",
      f"--figure={figure}",
    ]
  )
  printed = capsys.readouterr().out
  assert json.loads(printed.splitlines()[-1]) == json.loads(json.dumps(result))
  assert printed.startswith(output.read_text())
  assert "4 scenes of tetrominoes_scenes/test" in printed
  assert '--variants="no_gru,per_slot_start"' in result["command"]
  path = tmp_path / "runs" / reproduce.directory_of("quickstart", TINY)
  runs = sorted(p.name for p in path.iterdir())
  assert runs == ["baseline", "no_gru"]
  baseline, no_gru, per_slot = result["rows"]
  assert [r["same"] for r in result["rows"]] == [True, False, True]
  assert per_slot["seeds"][0]["metrics"] == baseline["seeds"][0]["metrics"]
  assert no_gru["seeds"][0]["metrics"] != baseline["seeds"][0]["metrics"]
  config = json.loads((path / "no_gru" / "3" / "config.json").read_text())
  assert config["model"]["slot_update"] == "residual"
  assert figure.exists()


def test_a_variant_that_cannot_be_trained_says_why(tmp_path):
  # Set prediction needs a slot for each of the ten objects.
  overrides = TINY.replace("num_slots=3", "num_slots=10")
  row = study_ablations.run_variant(
    "slots_fewer",
    reproduce.TASKS["clevr_set"],
    [0],
    f"{overrides},data.name=clevr_scenes",
    tmp_path,
    4,
  )
  assert row["change"] == "model.num_slots=9"
  (seed,) = row["seeds"]
  assert "at least as many slots as the 10 objects" in seed["failure"]
  text = study_ablations.table([row, row], ("ap_inf",))
  assert text.count("at least as many slots") == 2


def test_unknown_variants_are_refused(capsys):
  with pytest.raises(SystemExit):
    study_ablations.main(["--task=quickstart", "--variants=no_slots"])
  assert "got ['no_slots']" in capsys.readouterr().err
