"""The documentation: links lead somewhere, examples run, commands exist."""

import json
import pathlib
import re
import shlex

import pytest

import slot_attention_jax as sa

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(
  path.relative_to(ROOT).as_posix()
  for pattern in ("*.md", "docs/*.md", "experiments/*.md")
  for path in ROOT.glob(pattern)
)
PROGRAMS = ("slot-attention", "python -m slot_attention_jax.main")


def text_of(page):
  return (ROOT / page).read_text(encoding="utf-8")


def anchors(page):
  """The anchors that GitHub gives a page's headings."""
  headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
  plain = (re.sub(r"[^\w\- ]", "", h.lower()) for h in headings)
  return {h.strip().replace(" ", "-") for h in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
  broken = []
  text = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
  for link in re.findall(r"\]\(([^)\s]+)\)", text):
    if re.match(r"[a-z]+:", link):
      continue
    file, _, anchor = link.partition("#")
    target = (ROOT / page).parent / file if file else ROOT / page
    known = target.exists() and (
      not anchor or anchor in anchors(target.resolve().relative_to(ROOT))
    )
    if not known:
      broken.append(link)
  assert not broken


def test_the_guide_s_own_config_loads(tmp_path):
  (code,) = re.findall(
    r"```python\n(.*?)```", text_of("docs/training.md"), re.DOTALL
  )
  path = tmp_path / "my_config.py"
  path.write_text(code)
  assert sa.load_config(str(path)).model.num_slots == 9
  assert sa.load_config(f"{path}:debug").train.num_steps == 2


@pytest.mark.thorough
def test_one_iteration_written_out_is_the_module_s():
  (code,) = re.findall(
    r"```python\n(.*?)```", text_of("docs/concepts.md"), re.DOTALL
  )
  variables = {}
  exec(compile(code, "docs/concepts.md", "exec"), variables)
  assert variables["slots"].shape == (2, 4, 64)


def run_notebook(page, num_steps):
  """Runs the cells of a notebook, returns its variables."""
  pyplot = pytest.importorskip("matplotlib.pyplot")
  pyplot.switch_backend("agg")
  variables = {}
  for i, cell in enumerate(json.loads(text_of(page))["cells"]):
    if cell["cell_type"] == "code":
      code = "".join(cell["source"])
      code = re.sub(r"(?m)^(NUM_STEPS = ).*", rf"\g<1>{num_steps}", code)
      exec(compile(code, f"{page} cell {i}", "exec"), variables)
  pyplot.close("all")
  return variables


@pytest.mark.thorough
def test_the_notebook_runs_from_top_to_bottom():
  variables = run_notebook("docs/tour.ipynb", num_steps=3)
  assert len(variables["losses"]) == 3
  assert variables["scores"]["FG-ARI"].mean() > 0.8


@pytest.mark.slow
def test_the_notebook_s_training_learns():
  losses = run_notebook("docs/tour.ipynb", num_steps=100)["losses"]
  assert losses[-1] < 0.5 * losses[0]


def commands(page):
  """Commands of the program in a page's shell blocks, a line each."""
  for block in re.findall(
    r"```(?:sh|bash)\n(.*?)```", text_of(page), re.DOTALL
  ):
    for line in block.replace("\\\n", " ").splitlines():
      for part in re.split(r" && |\bdo\b|;", line):
        words = part.split("#")[0].strip()
        words = re.sub(r"^(JAX_PLATFORMS=cpu |\S*srun \S+ )", "", words)
        words = re.sub(r"^\S*/bin/python", "python", words)
        if words.startswith(PROGRAMS):
          yield words


COMMANDS = [(p, c) for p in PAGES for c in commands(p)]


def test_there_are_commands_in_the_documentation():
  assert len(COMMANDS) >= 15


@pytest.mark.parametrize(
  "command",
  [c for _, c in COMMANDS],
  ids=[f"{p}-{i}" for i, (p, _) in enumerate(COMMANDS)],
)
def test_commands_name_configs_variants_and_keys_that_exist(command):
  flags = [w for w in shlex.split(command) if w.startswith("--config")]
  names = [w.partition("=")[2] for w in flags if w.startswith("--config=")]
  if not names or names[0].startswith("NAME"):
    return
  assert len(names) == 1, command
  # A run has the name of its config.
  config = sa.load_config(names[0].removeprefix("runs/"))
  for flag in flags:
    key = flag.partition("=")[0]
    if not key.startswith("--config."):
      continue
    *groups, name = key.removeprefix("--config.").split(".")
    group = config
    for part in groups:
      group = group[part]
    assert name in group, flag


def test_what_is_promised_names_tests_that_exist():
  """`FILE.py`, `FILE.py::TEST` or `FILE.py -k WORD` in docs/reliability.md."""
  text = (ROOT / "docs" / "reliability.md").read_text()
  named = re.findall(r"`(\S+\.py)(?:::(\w+)| -k (\w+))?`", text)
  assert len(named) > 15
  for file, test, word in named:
    code = (ROOT / "tests" / file).read_text()
    wanted = rf"^def {test}\(" if test else rf"^def test_\w*{word}"
    assert re.search(wanted, code, re.MULTILINE), (file, test, word)
