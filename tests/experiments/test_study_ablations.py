"""Tests of the ablations: changed keys, the table, the figure, failures."""

import json

import pytest

from experiments import ablation_report, reproduce, study_ablations
from experiments.common import configuration
from slot_attention_jax import evaluate as evaluate_lib

# A model with a few thousand parameters, on synthetic scenes.
TINY = (
  "debug,train.num_steps=2,data.resolution=(8, 8),model.num_slots=3,"
  "model.slot_size=4,model.mlp_hidden_size=4,model.encoder_channels=(4,),"
  "model.encoder_kernel_sizes=(3,),model.encoder_strides=(1,),"
  "model.encoder_mlp_sizes=(4,),model.broadcast_size=(8, 8),"
  "model.decoder_channels=(4,),model.decoder_kernel_sizes=(3, 3),"
  "model.decoder_strides=(1, 1),model.unroll=1,optim.name=adam,"
  "logging.num_images=0"
)
PLAIN = f"plain,{TINY}"


def make_result(seed, failure=None, step=1000, **metrics):
  return {
    "seed": seed,
    "failure": failure,
    "step": step,
    "minutes": 1.25,
    "data": "squares/test",
    "metrics": metrics,
  }


def make_row(variant, *results, change="", same=False):
  return {
    "variant": variant,
    "change": change,
    "same": same,
    "seeds": list(results),
  }


ROWS = [
  make_row(
    "baseline",
    make_result(0, mse=0.1, fg_ari=0.9),
    make_result(1, mse=0.3, fg_ari=0.8),
    same=True,
  ),
  make_row(
    "no_gru",
    make_result(0, mse=0.2, fg_ari=0.5),
    make_result(1, "failed: nan | at 2", step=2),
    change="model.slot_update=residual",
  ),
  make_row(
    "no_mlp",
    make_result(0, "failed"),
    make_result(1, "at 5 of 9", step=5),
    change="model.mlp_hidden_size=0",
  ),
]


# Changes to quickstart:plain: 4 slots, 3 iterations, slot_init per_slot.
CHANGES = {
  "no_gru": {"slot_update": "residual"},
  "no_gru_replace": {"slot_update": "replace"},
  "no_mlp": {"mlp_hidden_size": 0},
  "sum": {"normalization": "sum"},
  "scaled_sum": {"normalization": "scaled_sum"},
  "shared_init": {"slot_init": "shared"},
  "per_slot_init": {},
  "learned_init": {"slot_init": "learned"},
  "unrolled": {},
  "implicit": {"gradient": "implicit"},
  "implicit_start": {"gradient": "implicit_start"},
  "iterations_1": {"num_iterations": 1},
  "iterations_2": {"num_iterations": 2},
  "iterations_5": {"num_iterations": 5},
  "slots_fewer": {"num_slots": 3},
  "slots_more": {"num_slots": 6},
}


def difference(new, old):
  """Returns the keys whose values differ, with the values of `new`."""
  assert new.keys() == old.keys()
  return {k: v for k, v in new.items() if v != old[k]}


@pytest.mark.parametrize("name", study_ablations.VARIANTS)
def test_each_variant_changes_one_key(name, tmp_path, monkeypatch):
  configs = []

  def run_seed(task, config, workdir, num_scenes, command):
    # The recorded command gives the same config.
    assert configuration.load_command(command).to_dict() == config.to_dict()
    configs.append((config.to_dict(), workdir, num_scenes))
    return make_result(config.seed, "failed: nan")

  monkeypatch.setattr(reproduce, "run_seed", run_seed)
  task = reproduce.TASKS["quickstart"]
  common = (task, [5, 6], "plain,optim.learning_rate=0.25", tmp_path, 8)
  baseline = study_ablations.run_variant("baseline", *common)
  base, configs[:] = list(configs), []
  assert [c["seed"] for c, *_ in base] == [5, 6]
  assert [c["optim"]["learning_rate"] for c, *_ in base] == [0.25, 0.25]
  row = study_ablations.run_variant(name, *common, baseline=baseline)
  expected = CHANGES[name]
  assert row["same"] == (not expected)
  if not expected:
    # Nothing is run, even if the baseline failed: its results are reused.
    assert not configs
    assert row["seeds"] == baseline["seeds"]
    return
  assert len(configs) == 2
  for (new, workdir, scenes), (old, *_) in zip(configs, base, strict=True):
    assert difference(new, old) == {"model": new["model"]}
    assert difference(new["model"], old["model"]) == expected
    assert (workdir, scenes) == (tmp_path / name / str(new["seed"]), 8)
  ((key, value),) = expected.items()
  assert row["change"] == f"model.{key}={value}"


def test_number_of_slots_is_relative_to_the_config():
  config = reproduce.load_config(
    reproduce.TASKS["quickstart"], 0, "model.num_slots=9"
  )
  got = [
    study_ablations.get_change(name, config)
    for name in ("slots_fewer", "slots_more")
  ]
  assert got == [("model.num_slots", 8), ("model.num_slots", 11)]


def test_other_iterations_need_a_config_that_does_not_draw_them():
  config = reproduce.load_config(reproduce.TASKS["quickstart"], 0, "")
  with pytest.raises(ValueError, match=r"for iterations_1, got \(3, 5\)"):
    study_ablations.get_change("iterations_1", config)


@pytest.mark.parametrize("name", ["iterations_2", "implicit"])
def test_what_cannot_be_varied_is_said_before_anything_is_trained(
  name, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(
    reproduce, "run_seed", lambda *a, **k: pytest.fail("too late")
  )
  with pytest.raises(SystemExit):
    study_ablations.main(
      [
        "--task=quickstart",
        f"--variants=no_gru,{name}",
        f"--workdir={tmp_path}",
      ]
    )
  assert f"for {name}, got (3, 5). Use" in capsys.readouterr().err


def test_a_wrong_set_is_no_traceback(capsys):
  with pytest.raises(SystemExit):
    study_ablations.main(["--task=quickstart", "--set=plane"])
  assert "Did you mean 'plain'" in capsys.readouterr().err


def test_table_shows_seeds_and_the_mean_of_finished_ones():
  lines = ablation_report.table(ROWS, ("fg_ari",)).splitlines()
  assert len(lines) == 2 + len(ROWS)
  cells = [
    [c.strip() for c in line.strip("|").split("|")]
    for line in (lines[0], *lines[2:])
  ]
  assert {len(c) for c in cells} == {8}
  assert cells[0][5] == "mse"
  assert cells[1][1:] == [
    "the config as it is",
    "90.0 / 80.0",
    "85.0 +- 7.1 (2 of 2)",
    "+0.0",
    "0.2000",
    "1,000",
    "1.2 / 1.2",
  ]
  assert cells[2][1:7] == [
    "`model.slot_update=residual`",
    "50.0 / failed: nan / at 2",
    "50.0 (1 of 2)",
    "-35.0",
    "0.2000",
    "1,000 / 2",
  ]
  assert cells[3][2:6] == ["failed / at 5 of 9", "none", "none", "none"]


def test_the_reason_of_a_failure_is_given_once():
  good = make_result(0, ap_inf=0.9, ap_1=0.5)
  rows = [
    make_row("baseline", good),
    make_row("sum", make_result(0, "failed: K")),
  ]
  text = ablation_report.table(rows, ("ap_inf", "ap_1"))
  cells = [c.strip() for c in text.splitlines()[-1].split("|")]
  assert cells[3:9] == ["failed: K", "none", "none"] + ["none"] * 3


def test_a_variant_equal_to_the_config_shows_the_baseline():
  same = make_row(
    "unrolled", *ROWS[0]["seeds"], change="model.gradient=unrolled", same=True
  )
  lines = ablation_report.table([ROWS[0], same], ("fg_ari",)).splitlines()
  baseline, shared = (line.split(" | ") for line in lines[2:])
  assert shared[1] == (
    "`model.gradient=unrolled`, as the config has it: the baseline's runs"
  )
  assert shared[2:] == baseline[2:]


def test_bars_are_means_and_dots_are_seeds(tmp_path):
  path = tmp_path / "new" / "figure.png"
  figure = ablation_report.draw(
    ROWS, ("fg_ari",), "squares/test, quickstart", path
  )
  assert path.read_bytes().startswith(b"\x89PNG")
  assert figure.get_suptitle() == "squares/test, quickstart"
  fg_ari, mse = figure.axes
  assert [fg_ari.get_title(), mse.get_title()] == ["fg_ari", "mse"]
  widths = [bar.get_width() for bar in fg_ari.patches]
  assert widths == pytest.approx([0.85, 0.5])
  assert [bar.get_width() for bar in mse.patches] == pytest.approx([0.2, 0.2])
  *dots, baseline = fg_ari.lines
  assert [list(d.get_xdata()) for d in dots] == [[0.9, 0.8], [0.5]]
  assert list(baseline.get_xdata()) == pytest.approx([0.85, 0.85])
  labels = [label.get_text() for label in fg_ari.get_yticklabels()]
  assert labels == ["baseline", "no_gru (1 of 2)", "no_mlp (0 of 2)"]
  # The first row is at the top; the last one has no bar but takes its place.
  assert fg_ari.get_ylim() == (2.5, -0.5)


def test_a_long_title_is_wrapped_between_keys(tmp_path):
  keys = [f"model.encoder_channels=({i},)" for i in range(10, 16)]
  figure = ablation_report.draw(
    ROWS, ("fg_ari",), ",".join(keys), tmp_path / "figure.png"
  )
  lines = figure.get_suptitle().split("\n")
  assert len(lines) > 1
  assert ", ".join(line.rstrip(",") for line in lines) == ", ".join(keys)


@pytest.mark.slow
def test_variants_are_trained_once_and_evaluated(tmp_path, capsys):
  output, figure = tmp_path / "new" / "rows.md", tmp_path / "figure.png"
  result = study_ablations.main(
    [
      "--task=quickstart",
      "--seeds=3",
      "--variants=no_gru,per_slot_init,no_gru",
      f"--set={PLAIN}",
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
  assert '--variants="no_gru,per_slot_init"' in result["command"]
  path = tmp_path / "runs" / reproduce.directory_name("quickstart", PLAIN)
  runs = sorted(p.name for p in path.iterdir())
  assert runs == ["baseline", "no_gru"]
  baseline, no_gru, per_slot = result["rows"]
  assert [r["same"] for r in result["rows"]] == [True, False, True]
  assert per_slot["seeds"] == baseline["seeds"]
  assert figure.exists()
  # The row equals an evaluation of the run's checkpoint.
  config = reproduce.load_config(
    reproduce.TASKS["quickstart"], 3, f"{PLAIN},model.slot_update=residual"
  )
  config.data.scenes.num_eval = 4
  config.eval.split = "test"
  metrics = {
    name.rsplit("/", 1)[1]: value
    for name, value in evaluate_lib.evaluate_model(
      config, str(path / "no_gru" / "3")
    ).items()
  }
  assert no_gru["seeds"][0]["metrics"] == pytest.approx(metrics, abs=1e-6)
  assert metrics["mse"] != baseline["seeds"][0]["metrics"]["mse"]
  (line,) = [x for x in printed.splitlines() if x.startswith("| no_gru |")]
  cells = [c.strip() for c in line.strip("|").split("|")]
  head = [c.strip() for c in printed.splitlines()[2].strip("|").split("|")]
  score = 100 * metrics["fg_ari"]
  base = 100 * baseline["seeds"][0]["metrics"]["fg_ari"]
  assert cells[2:5] == [
    f"{score:.1f}",
    f"{score:.1f} (1 of 1)",
    f"{score - base:+.1f}",
  ]
  for metric in ("ari", "mse"):
    assert cells[head.index(metric)] == f"{metrics[metric]:.4f}"
  assert cells[head.index("updates")] == "2"


def test_a_failed_variant_gives_the_reason(tmp_path):
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
  text = ablation_report.table([row, row], ("ap_inf",))
  assert text.count("at least as many slots") == 2


def test_unknown_variants_raise(capsys):
  with pytest.raises(SystemExit):
    study_ablations.main(["--task=quickstart", "--variants=no_slots"])
  assert "got ['no_slots']" in capsys.readouterr().err
