"""Installs slot_attention_jax; extras cuda, tpu, tf, dev."""

import pathlib

import setuptools

_README = pathlib.Path(__file__).parent / "README.md"

setuptools.setup(
  name="slot_attention_jax",
  version="0.1.0",
  description="Slot Attention (Locatello et al., NeurIPS 2020) in JAX and Flax",
  long_description=_README.read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  packages=setuptools.find_packages(
    include=["slot_attention_jax", "slot_attention_jax.*"]
  ),
  # Weights and their model cards.
  package_data={"slot_attention_jax.pretrained": ["*.safetensors", "*.md"]},
  python_requires=">=3.11",
  install_requires=[
    "absl-py>=2.1",
    "clu>=0.0.12",
    "flax>=0.12.7",
    "google-crc32c>=1.5",
    # tensorflow-datasets imports it without declaring it.
    "importlib_resources>=6.0",
    "jax>=0.10",
    "ml-collections>=1.0",
    "numpy>=2.0",
    "optax>=0.2.7",
    "orbax-checkpoint>=0.11.30",
    "pillow>=10.0",
    "safetensors>=0.5",
    "scipy>=1.14",
    "tensorflow-datasets>=4.9.10",
    "tqdm>=4.66",
  ],
  extras_require={
    "cuda": ["jax[cuda13]>=0.10"],
    "tpu": ["jax[tpu]>=0.10"],
    # TensorFlow reads tfrecords; the summaries need tensorboard beside it.
    "tf": ["tensorboard>=2.19", "tensorflow>=2.19"],
    "dev": [
      "grain>=0.2.12",
      "matplotlib>=3.9",
      "pyright>=1.1.390",
      "pytest>=8.0",
      "pytest-xdist>=3.5",
      "ruff>=0.14",
      # Oracle of the metrics.
      "scikit-learn>=1.5",
    ],
  },
)
