"""Weights on the Hugging Face Hub: `hf://owner/name`.

A repository holds the weights, as `model.safetensors`, and their card, as
`README.md`. The package `huggingface_hub` (extra `hub`) does the transfers; its
variables `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE` and `HF_TOKEN` apply.
"""

import os
import pathlib
import re
from typing import Any

from slot_attention_jax.pretrained import model_card, weights_file

PREFIX = "hf://"
_WEIGHTS = "model.safetensors"
_PART = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?"
_NAME = re.compile(rf"hf://({_PART}/{_PART})(?:@([\w./-]+))?")


def is_hub(name: str) -> bool:
  """Whether a name of weights is that of a repository on the Hub."""
  return name.startswith(PREFIX)


def download(name: str) -> pathlib.Path:
  """Downloads the weights of a repository, or finds them in the cache.

  Args:
    name: `"hf://owner/name"`, or `"hf://owner/name@revision"` with a branch, a
      tag or a commit.

  Returns:
    The file in the cache of `huggingface_hub`. Without a network, what was
    downloaded before is taken. Readers of the file verify its checksums.

  Raises:
    FileNotFoundError: if there is no such repository or revision, it holds no
      weights, or there is neither a network nor a copy in the cache.
    ModuleNotFoundError: if `huggingface_hub` is not installed.
    OSError: if the Hub refuses.
    ValueError: if the name is none.
  """
  repository, revision = _split(name)
  hub = _import()
  errors = hub.errors
  try:
    path = hub.hf_hub_download(
      repository, _WEIGHTS, revision=revision, endpoint=_endpoint()
    )
  except errors.RevisionNotFoundError as error:
    raise FileNotFoundError(
      f"Expected a branch, tag or commit of {PREFIX}{repository} after @, got "
      f"{revision!r}, which it does not have."
    ) from error
  except errors.RepositoryNotFoundError as error:
    raise FileNotFoundError(
      f"Expected a repository on the Hub, got {name}: there is none of this "
      "name, or it is private. Check the name, or log in with hf auth login."
    ) from error
  except errors.LocalEntryNotFoundError as error:
    raise FileNotFoundError(
      f"Expected {name} in the cache, as the Hub cannot be reached or "
      "HF_HUB_OFFLINE is set, found no copy. Connect once, or copy the file "
      "and use load_weights(path)."
    ) from error
  except errors.EntryNotFoundError as error:
    raise FileNotFoundError(
      f"Expected {_WEIGHTS} in {name}, which slot_attention_jax.push_to_hub "
      "writes, found none: it holds another kind of model."
    ) from error
  except errors.HfHubHTTPError as error:
    raise OSError(f"The Hub refuses {name}: {error}") from error
  return pathlib.Path(path)


def push_to_hub(
  weights: str | os.PathLike[str],
  repository: str,
  *,
  private: bool = False,
  message: str = "Weights of slot_attention_jax",
) -> str:
  """Uploads weights and their card to a repository on the Hub.

  The repository is made if it does not exist. You must be logged in, by the
  command `hf auth login` or the variable `HF_TOKEN`.

  Args:
    weights: path of a `.safetensors` file of `export_weights`, which says
      everything that the card needs.
    repository: `"owner/name"` or `"hf://owner/name"`.
    private: whether others may not see a repository that is made.
    message: of the commit.

  Returns:
    The name for `load_pretrained`, `"hf://owner/name"`.

  Raises:
    FileNotFoundError: if there is no such file.
    ModuleNotFoundError: if `huggingface_hub` is not installed.
    OSError: if the Hub refuses, or cannot be reached.
    ValueError: if the file is damaged, or the repository is not a name.

  Example:
    A run of your own, once it is evaluated and exported::

      sa.push_to_hub("runs/mine/weights/mine.safetensors", "me/slots")
      model, params = sa.load_pretrained("hf://me/slots")
  """
  name = repository if is_hub(repository) else f"{PREFIX}{repository}"
  repo_id, revision = _split(name)
  if revision is not None:
    raise ValueError(f"Expected owner/name, got {repository!r}. Drop @.")
  hub = _import()
  path = pathlib.Path(weights)
  weights_file.load_weights(path)  # Damaged files are not published.
  metadata = weights_file.read_weights_metadata(path)
  card = model_card.hub_card(repo_id, metadata)
  api = hub.HfApi(endpoint=_endpoint())
  files = {_WEIGHTS: path, "README.md": card.encode()}
  try:
    api.create_repo(repo_id, private=private, exist_ok=True)
    api.create_commit(
      repo_id,
      [hub.CommitOperationAdd(k, content) for k, content in files.items()],
      commit_message=message,
    )
  except hub.errors.HfHubHTTPError as error:
    raise OSError(
      f"The Hub refuses {name}: {error}. Log in with hf auth login, with a "
      "token that may write there."
    ) from error
  except hub.errors.LocalTokenNotFoundError as error:
    raise OSError(
      f"Expected a token for {name}, found none. Log in with hf auth login."
    ) from error
  except Exception as error:
    # The package that transfers has errors of its own without a network.
    if type(error).__name__ not in ("ConnectError", "OfflineModeIsEnabled"):
      raise
    raise OSError(f"The Hub cannot be reached: {error}") from error
  return name


def _split(name: str) -> tuple[str, str | None]:
  """Owner and name, and the revision."""
  match = _NAME.fullmatch(name)
  if not match:
    raise ValueError(
      f"Expected {PREFIX}owner/name or {PREFIX}owner/name@revision, got "
      f"{name!r}."
    )
  return match[1], match[2]


def _endpoint() -> str | None:
  """Read at each call: `huggingface_hub` reads it when it is imported."""
  return os.environ.get("HF_ENDPOINT") or None


def _import() -> Any:
  try:
    import huggingface_hub
    import huggingface_hub.errors
  except ImportError as error:
    raise ModuleNotFoundError(
      f"Expected huggingface_hub for {PREFIX} names, which is not installed. "
      'Install it with pip install "slot_attention_jax[hub]"',
      name="huggingface_hub",
    ) from error
  return huggingface_hub
