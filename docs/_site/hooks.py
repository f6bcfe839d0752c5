"""Builds the site from the pages where they are, so that their links work.

The README, `docs/` and `experiments/` link to each other and to source files by
relative paths. The site has the same tree, so that each link leads to the same
file on GitHub and on the site. The API reference is made from the docstrings of
the public names of each room of the package.
"""

import ast
import json
import pathlib
import re

from mkdocs.structure import files as mkdocs_files

ROOT = pathlib.Path(__file__).parents[2]
PAGES = (
  "*.md",
  "docs/*.md",
  "docs/*.ipynb",
  "docs/*.png",
  "docs/*.svg",
  "experiments/*.md",
  "slot_attention_jax/pretrained/*.md",
  "CITATION.cff",
)
"""What the site has beside the API reference and the sources it links to."""

ROOMS = {
  "Modules": (
    "modules/slot_attention",
    "modules/encoder",
    "modules/decoder",
    "modules/position",
    "modules/attention_moments",
    "modules/background",
    "modules/slot_init",
  ),
  "Models": ("models/autoencoder", "models/set_predictor"),
  "Losses and matching": ("losses", "matching"),
  "Metrics": (
    "metrics/ari",
    "metrics/overlap",
    "metrics/segmentation",
    "metrics/masks",
    "metrics/reconstruction",
    "metrics/average_precision",
    "metrics/attributes",
    "metrics/standard_errors",
  ),
  "Prediction": ("predict/predictions",),
  "Reports": ("report/write",),
  "Data": (
    "data/transforms",
    "data/types",
    "data/properties",
    "data/cached_dataset",
    "data/procedural/scenes",
    "data/procedural/tetrominoes",
    "data/procedural/multi_dsprites",
  ),
  "Tasks": ("tasks/task", "tasks/object_discovery", "tasks/set_prediction"),
  "Training": ("training/steps", "training/optimizers", "runtime/mesh"),
  "Weights": ("pretrained/__init__", "pretrained/weights_file"),
  "Reference weights": ("interop/__init__", "interop/tensorflow_checkpoint"),
}
"""Pages of the API reference: titles and the modules on each."""

_LINK = re.compile(r"\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_config(config):
  """Adds the pages of the API reference to the navigation."""
  pages = [{title: f"api/{_slug(title)}.md"} for title in ROOMS]
  config.nav.append({"API": pages})
  return config


def on_files(files, config):
  """Replaces the files of `docs_dir` by those of the whole repository."""
  found = {
    path.relative_to(ROOT).as_posix()
    for pattern in PAGES
    for path in ROOT.glob(pattern)
  }
  for page in sorted(found):
    if page.endswith(".md"):
      found |= _linked_files(page)
  theme = [f for f in files if f.src_uri.startswith("assets/")]
  made = [_file(name, config) for name in sorted(found)]
  made += [
    mkdocs_files.File.generated(
      config, f"{name.removesuffix('.ipynb')}.md", content=_notebook(name)
    )
    for name in sorted(found)
    if name.endswith(".ipynb")
  ]
  made += [
    mkdocs_files.File.generated(
      config, f"api/{_slug(title)}.md", content=_reference(title, modules)
    )
    for title, modules in ROOMS.items()
  ]
  return mkdocs_files.Files([*theme, *made])


def _file(name, config):
  return mkdocs_files.File.generated(
    config, name, abs_src_path=str(ROOT / name)
  )


def _notebook(name):
  """The cells of a notebook as a page, with a link to the file."""
  cells = json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]
  parts = []
  for cell in cells:
    text = "".join(cell["source"])
    code = cell["cell_type"] == "code"
    parts.append(f"```python\n{text}\n```" if code else text)
  link = f"[Download the notebook]({pathlib.PurePath(name).name})"
  return "\n\n".join([parts[0], link, *parts[1:]])


def _slug(title):
  return title.lower().replace(" ", "_")


def _linked_files(page):
  """Files of the repository that a page links to."""
  text = (ROOT / page).read_text(encoding="utf-8")
  targets = (
    (ROOT / page).parent.joinpath(link).resolve()
    for link, _ in _LINK.findall(text)
    if ":" not in link
  )
  return {t.relative_to(ROOT).as_posix() for t in targets if t.is_file()}


def _reference(title, modules):
  """A page of the API reference, in Markdown."""
  lines = [f"# {title}", ""]
  for module in modules:
    name = f"slot_attention_jax.{module.replace('/', '.')}"
    lines += [
      f"## `{name.removesuffix('.__init__')}`",
      "",
      f"::: {name.removesuffix('.__init__')}",
      "    options:",
      "      show_root_heading: false",
      "      show_root_toc_entry: false",
      "      heading_level: 3",
      f"      members: {_public_names(module)}",
      "",
    ]
  return "\n".join(lines)


def _public_names(module):
  """Public classes, functions and constants that a module defines."""
  path = ROOT / "slot_attention_jax" / f"{module}.py"
  names = []
  for node in ast.parse(path.read_text(encoding="utf-8")).body:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
      names.append(node.name)
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
      names.append(node.targets[0].id)
    elif isinstance(node, ast.ImportFrom) and path.name == "__init__.py":
      names += [alias.asname or alias.name for alias in node.names]
  return [n for n in names if not n.startswith("_")]
