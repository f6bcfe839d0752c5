"""The floors of the package, and what it runs without.

A module imports package modules only from its own floor or a lower one, so
that each can be read, tested and reused with what is below it alone.
"""

import ast
import functools
import gc
import importlib
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = "slot_attention_jax"

# Floors by module, without the package's name; a name that ends with a dot
# stands for all modules in it. `evaluate` and `visualize` lie below `train`
# and `render`.
FLOORS = {
  "runtime.": 1,
  "config.": 1,
  "modules.": 1,
  "matching": 1,
  "data.": 2,
  "models.": 2,
  "losses": 2,
  "interop.": 2,
  "metrics.": 3,
  "pretrained.": 3,
  "tasks.": 4,
  "training.": 5,
  "evaluation.": 5,
  "train": 6,
  "evaluate": 6,
  "render": 6,
  "export_weights": 6,
  "predict.": 6,
  "report.": 6,
  "demo.": 6,
  "main": 7,
}
# These need nothing but numerics, besides the package and Python's own.
NUMERICS = {"jax", "flax", "optax", "numpy"}
NUMERICS_ONLY = (
  "modules.",
  "models.",
  "matching",
  "losses",
  "metrics.",
  "data.properties",
  "data.types",
  "data.transforms",
  "data.procedural.",
)
# Nothing imports these when it is itself imported.
HEAVY = (
  "tensorflow",
  "tensorflow_datasets",
  "grain",
  "matplotlib",
  "PIL",
  "clu.metric_writers",
  "torch",
)

# Modules that are nothing without such a package are heavy themselves.
MADE_OF_HEAVY = {
  "data.multi_object.tfds_builders": ("tensorflow_datasets",),
  "interop.pytorch_twin": ("torch",),
}


def all_modules():
  """Files of the package by module name, "" for the package itself."""
  modules = {}
  for path in sorted((ROOT / PACKAGE).rglob("*.py")):
    parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    modules[".".join(parts)] = path
  return modules


MODULES = all_modules()


def floor_of(module):
  for name, floor in FLOORS.items():
    inside = name.endswith(".") and f"{module}.".startswith(name)
    if module == name or inside:
      return floor
  return None


@functools.cache
def statements(path):
  """The import statements of a file, and whether each is in a function."""
  found = []

  def visit(node, in_function):
    if isinstance(node, ast.Import | ast.ImportFrom):
      found.append((node, in_function))
    if isinstance(node, ast.expr):
      return
    function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in ast.iter_child_nodes(node):
      visit(child, in_function or function)

  visit(ast.parse(path.read_text(encoding="utf-8")), in_function=False)
  return found


@functools.cache
def imported_names(path, *, at_import):
  """Dotted names that a file imports, in it all or when it is imported."""
  names = set()
  for node, in_function in statements(path):
    if at_import and in_function:
      continue
    if isinstance(node, ast.Import):
      names.update(alias.name for alias in node.names)
    else:
      assert node.level == 0, f"{path}:{node.lineno}: relative import"
      names.update(f"{node.module}.{alias.name}" for alias in node.names)
  return names


def package_modules(names):
  """The package modules among dotted names, without the package's name."""
  found = set()
  for name in names:
    parts = name.split(".")
    if parts[0] != PACKAGE:
      continue
    # `from package.module import function` is an import of the module.
    while ".".join(parts[1:]) not in MODULES:
      parts = parts[:-1]
    found.add(".".join(parts[1:]))
  return found


def test_modules_import_only_from_their_floor_or_below():
  wrong = []
  for module, path in MODULES.items():
    floor = floor_of(module)
    if module and floor is None:
      wrong.append(
        f"{path} is on no floor: say in FLOORS of {__file__} where it belongs, "
        "on the lowest floor that has all it imports."
      )
    if floor is None:
      continue
    above = {
      name: floor_of(name)
      for name in package_modules(imported_names(path, at_import=False))
      if name == "" or (floor_of(name) or 0) > floor
    }
    if above:
      wrong.append(
        f"{module} is on floor {floor} and imports {above}, from above. Move "
        "what is shared down, or the module up."
      )
  assert not wrong, "\n".join(wrong)


def test_the_table_of_floors_has_no_stale_rows():
  stale = [
    name
    for name in FLOORS
    if not any(f"{m}.".startswith(name) or m == name for m in MODULES)
  ]
  assert not stale, f"FLOORS names what does not exist: {stale}"


def test_contributing_has_the_same_table():
  text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
  rows = re.findall(r"^\| (\d) \| (.*?) \|", text, re.MULTILINE)
  table = {
    name.replace("/", "."): int(floor)
    for floor, names in rows
    for name in re.findall(r"`([^`]+)`", names)
  }
  assert table == FLOORS


def in_rooms(module, rooms):
  return any(module == r or f"{module}.".startswith(r) for r in rooms)


def roots(path):
  """Packages that a file imports."""
  names = imported_names(path, at_import=False)
  return {name.split(".")[0] for name in names}


def test_numerical_modules_need_numerics_only():
  numerical = {m: p for m, p in MODULES.items() if in_rooms(m, NUMERICS_ONLY)}
  assert len(numerical) > 20
  wrong = {
    module: others
    for module, path in numerical.items()
    if (others := roots(path) - sys.stdlib_module_names - NUMERICS - {PACKAGE})
  }
  assert not wrong


def test_the_public_names_come_from_the_library_s_floors():
  imported = package_modules(imported_names(MODULES[""], at_import=False))
  # Floor 6, because they read runs.
  imported -= {"predict.predictions", "report.write"}
  wrong = {name for name in imported if not 1 <= (floor_of(name) or 9) <= 3}
  assert not wrong, f"{PACKAGE}/__init__.py imports {sorted(wrong)}."


def test_heavy_packages_are_imported_in_functions():
  wrong = []
  for module, path in MODULES.items():
    heavy = {
      name
      for name in imported_names(path, at_import=True)
      for h in (*HEAVY, *(f"{PACKAGE}.{m}" for m in MADE_OF_HEAVY))
      if f"{name}.".startswith(f"{h}.")
      and h not in MADE_OF_HEAVY.get(module, ())
    }
    if heavy:
      wrong.append(
        f"{module or PACKAGE} imports {sorted(heavy)} as soon as it is "
        "imported. Import it in the function that needs it."
      )
  assert not wrong, "\n".join(wrong)


def test_nothing_in_the_package_imports_what_uses_it():
  users = {"configs", "experiments", "tests"}
  wrong = {m: roots(p) & users for m, p in MODULES.items() if roots(p) & users}
  assert not wrong


def run_without(absent, code, *arguments):
  """Runs code in a process that cannot find some packages."""
  preamble = f"""
    import importlib.machinery
    import sys

    absent = {set(absent)!r}
    find_spec = importlib.machinery.PathFinder.find_spec

    def find(name, *args, **kwargs):
      if name.split(".")[0] in absent:
        return None
      return find_spec(name, *args, **kwargs)

    importlib.machinery.PathFinder.find_spec = find
    """
  environment = os.environ | {
    "PYTHONPATH": str(ROOT),
    # Compiled in a fifth of the time; how fast it runs does not matter here.
    "XLA_FLAGS": "--xla_backend_optimization_level=0 "
    "--xla_cpu_use_fusion_emitters=false",
  }
  code = textwrap.dedent(preamble) + textwrap.dedent(code)
  result = subprocess.run(
    [sys.executable, "-c", code, *map(str, arguments)],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  return result.stdout.splitlines()


def test_the_library_is_imported_without_tensorflow_and_others():
  absent = [
    "tensorflow",
    "tensorflow_datasets",
    "tensorboard",
    "clu",
    "matplotlib",
    "grain",
    "orbax",
    "PIL",
    "safetensors",
  ]
  lines = run_without(
    absent,
    """
    try:
      import clu
    except ImportError:
      print("absent")
    import slot_attention_jax
    print(sorted(absent & {name.split(".")[0] for name in sys.modules}))
    print(slot_attention_jax.SlotAttention.__name__)
    """,
  )
  assert lines == ["absent", "[]", "SlotAttention"]


@pytest.mark.thorough
def test_pretrained_weights_are_loaded_without_orbax_and_config_files():
  absent = ["tensorflow", "clu", "orbax", "ml_collections", "PIL"]
  lines = run_without(
    absent,
    """
    import jax
    import slot_attention_jax as sa
    model, params = sa.load_pretrained("quickstart")
    images = jax.numpy.zeros((1, 28, 28, 3))
    rngs = {"slots": jax.random.key(0)}
    out = jax.jit(model.apply)(params, images, rngs=rngs)
    print(out.masks.shape)
    print(sorted(absent & {name.split(".")[0] for name in sys.modules}))
    """,
  )
  assert lines == ["(1, 5, 28, 28, 1)", "[]"]


@pytest.mark.thorough
def test_nothing_heavy_is_imported_with_the_library_where_it_is_installed():
  lines = run_without(
    [],
    f"""
    import slot_attention_jax
    heavy = {{*{HEAVY!r}, "orbax", "clu"}}
    print(sorted(heavy & set(sys.modules)))
    """,
  )
  assert lines == ["[]"]


@pytest.mark.thorough
def test_the_program_trains_with_a_plain_jax_and_ml_collections(tmp_path):
  absent = [
    "tensorflow",
    "tensorflow_datasets",
    "tensorboard",
    "clu",
    "grain",
    "google_crc32c",
    "matplotlib",
    "safetensors",
  ]
  small = (
    "model.num_slots=3,model.num_iterations=2,model.slot_size=16,"
    "model.mlp_hidden_size=0,model.encoder_channels=(8,),"
    "model.encoder_kernel_sizes=(5,),model.encoder_strides=(5,),"
    "model.encoder_mlp_sizes=(16,),model.decoder_channels=(),"
    "model.decoder_kernel_sizes=(5,),model.decoder_strides=(5,),"
    "model.broadcast_size=(7, 7)"
  )
  lines = run_without(
    absent,
    """
    import atexit
    import runpy

    def tell():
      print(sorted(absent & {name.split(".")[0] for name in sys.modules}))

    atexit.register(tell)  # The program ends by sys.exit.
    runpy.run_module("slot_attention_jax.main", run_name="__main__")
    """,
    f"--config=configs/tetrominoes.py:debug,{small}",
    f"--workdir={tmp_path}",
    "--compilation_cache=",
  )
  prefix = "tetrominoes_scenes/validation"
  names = [f"{prefix}/{n}" for n in ("mse", "ari", "fg_ari", "miou")]
  *metrics, imported = lines
  assert sorted(x.split(": ")[0] for x in metrics) == sorted(names)
  assert imported == "[]"
  assert (tmp_path / "checkpoints" / "2").is_dir()
  assert (tmp_path / "images" / "00000002.png").exists()


def test_importing_leaves_the_garbage_collector_alone(monkeypatch):
  import slot_attention_jax

  calls = []
  for name in ("disable", "enable", "freeze", "unfreeze", "set_threshold"):
    monkeypatch.setattr(gc, name, functools.partial(calls.append, name))
  importlib.reload(slot_attention_jax)
  assert not calls
