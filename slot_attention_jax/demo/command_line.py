"""Opens a local page on which slots are looked at, exchanged and decoded.

  slot-attention demo

Choose one of the package's models, or give one of your own as --model. Draw
synthetic scenes or upload images; choose slots of both and see them decoded
together. The page is served to this computer only. It needs the extra `demo`:
pip install "slot_attention_jax[demo]".
"""

import argparse
import importlib.util
import os
from collections.abc import Sequence

from slot_attention_jax.demo import handlers, page
from slot_attention_jax.runtime import compilation, user_errors

_ADDRESS = "127.0.0.1"


def main(argv: Sequence[str] | None = None) -> None:
  """Serves the page until it is interrupted."""
  arguments = _parser().parse_args(argv)
  with user_errors.exit_on_user_error(argv):
    serve(arguments.model, arguments.port)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="slot-attention demo",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "--model",
    metavar="NAME|FILE|RUN",
    help="the first model that is offered: a name, a .safetensors file, or the "
    "--workdir of a training; default: clevr6",
  )
  parser.add_argument(
    "--port", type=int, default=7860, help="of the page; default: 7860"
  )
  parser.add_argument(
    user_errors.FLAG, action="store_true", help="show a user error's traceback"
  )
  return parser


def serve(model: str | None, port: int) -> None:
  """Serves the page.

  Args:
    model: the first model that is offered; None: the package's.
    port: of the page.

  Raises:
    ValueError: without gradio, or on a port that is none or in use.
    FileNotFoundError: if there is no such model.
  """
  if importlib.util.find_spec("gradio") is None:
    raise ValueError(
      "Expected gradio for the demo, which is not installed. Install it with "
      'pip install "slot_attention_jax[demo]".'
    )
  if not 0 < port < 2**16:
    raise ValueError(f"Expected --port from 1 to 65535, got {port}.")
  # Nothing is asked of other hosts: no version checks, no statistics.
  os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
  os.environ.setdefault("HF_HUB_OFFLINE", "1")
  import gradio as gr

  compilation.keep_programs()
  blocks = page.create(handlers.offered(model))
  try:
    blocks.launch(
      server_name=_ADDRESS,
      server_port=port,
      share=False,
      max_file_size=page.MAX_FILE_SIZE,
      css=page.STYLE,
      theme=gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["monospace"]
      ),
    )
  except OSError as error:
    raise ValueError(
      f"Expected a free --port, got {port}, which is in use. Name another one."
    ) from error
