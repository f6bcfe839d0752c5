"""The page: two images, their slots, and a scene of the chosen ones."""

from typing import Any

from slot_attention_jax.demo import handlers as handlers_lib
from slot_attention_jax.demo import scenes
from slot_attention_jax.predict import pictures as pictures_lib

MAX_FILE_SIZE = 10 * 2**20
"""Bytes of the largest upload."""
_KEEP_SECONDS = 600
_HEIGHT = 256
_BUTTONS = ("download", "fullscreen")
_SLOTS_IN_A_ROW = 4
STYLE = f"""
.slots .grid-container {{
  grid-template-columns: repeat({_SLOTS_IN_A_ROW}, minmax(0, 1fr)) !important;
  grid-auto-rows: auto !important;
  grid-template-rows: none !important;
  padding-top: 2rem;
}}
"""
"""Style sheet: slots fit a phone, and none lies below the gallery's label."""
_HELP = """
# See what the slots see

Choose a model, draw or upload two images, and press **Find slots**. Then take
slots away, or put slots of one image into the other. Models know what they were
trained on, which is synthetic scenes.
"""


def create(available: handlers_lib.Models) -> Any:
  """Builds the page.

  Args:
    available: the models that can be chosen.

  Returns:
    A `gradio.Blocks`, not launched.
  """
  import gradio as gr

  handlers = handlers_lib.Handlers(available, gr.Error)
  first = available.load(available.names[0])
  with gr.Blocks(
    title="slot_attention_jax",
    analytics_enabled=False,
    delete_cache=(_KEEP_SECONDS, _KEEP_SECONDS),
  ) as page:
    gr.Markdown(_HELP)
    options = _options(gr, available.names, first)
    columns = []
    with gr.Row():
      for name in handlers_lib.NAMES:
        with gr.Column():
          columns.append(_image_column(gr, handlers, name, options))
    states, boxes = zip(*columns, strict=True)
    scene = gr.Image(
      label="A scene of the chosen slots",
      interactive=False,
      height=384,
      buttons=list(_BUTTONS),
      visible=handlers_lib.paints(first),
    )
    table = gr.Dataframe(
      label="Objects", interactive=False, visible=not scene.visible
    )
    for changed in (*boxes, *states):
      changed.change(
        handlers.combine, [*states, *boxes], scene, api_visibility="private"
      )
    for state in states:
      state.change(handlers.table, states, table, api_visibility="private")
    _on_new_model(gr, handlers, options, states, boxes, scene, table)
  return page


def _options(gr, names, first):
  """Controls of the model, K, T and the seed."""
  with gr.Row():
    model = gr.Dropdown(list(names), value=names[0], label="Model")
    num_slots = gr.Slider(
      1,
      scenes.MOST_SLOTS,
      value=first.model.num_slots,
      step=1,
      label="Slots (K)",
      interactive=handlers_lib.has_free_slots(first),
    )
    num_iterations = gr.Slider(
      1,
      scenes.MOST_ITERATIONS,
      value=first.model.num_iterations,
      step=1,
      label="Iterations (T)",
    )
    seed = gr.Number(
      0, label="Seed of the slots", precision=0, minimum=0, maximum=2**31 - 1
    )
  return model, num_slots, num_iterations, seed


def _on_new_model(gr, handlers, options, states, boxes, scene, table):
  """Sets the controls for a model that is chosen; scenes of the other go."""
  model, num_slots, num_iterations, _ = options

  def change(name):
    trained = handlers.model(name)
    paints = handlers_lib.paints(trained)
    return [
      gr.Slider(
        value=trained.model.num_slots,
        interactive=handlers_lib.has_free_slots(trained),
      ),
      gr.Slider(value=trained.model.num_iterations),
      *(None for _ in states),
      *(gr.CheckboxGroup([], value=[], visible=paints) for _ in boxes),
      gr.Image(value=None, visible=paints),
      gr.Dataframe(value=None, visible=not paints),
    ]

  outputs = [num_slots, num_iterations, *states, *boxes, scene, table]
  model.change(change, model, outputs, api_name="choose_model")


def _image_column(gr, handlers, name, options):
  """An image, its buttons, its slots; returns its state and its boxes."""
  image = gr.Image(
    label=f"Image {name}",
    type="numpy",
    sources=["upload"],
    height=_HEIGHT,
    buttons=list(_BUTTONS),
  )
  state = gr.State(None, time_to_live=_KEEP_SECONDS)
  drawn = gr.State(None, time_to_live=_KEEP_SECONDS)
  with gr.Row():
    draw = gr.Button(f"Draw a scene {name}")
    find = gr.Button(f"Find slots {name}", variant="primary")
  overlay = gr.Image(
    label=f"Slots of {name}",
    interactive=False,
    height=_HEIGHT,
    buttons=list(_BUTTONS),
  )
  gallery = gr.Gallery(
    label=f"What each slot of {name} takes",
    columns=_SLOTS_IN_A_ROW,
    height=200,
    object_fit="contain",
    elem_classes="slots",
    interactive=False,
    buttons=list(_BUTTONS),
  )
  boxes = gr.CheckboxGroup([], label=f"Slots of {name} in the scene below")
  draw.click(handlers.draw, options[0], [image, drawn], api_name=f"draw_{name}")
  for event in (image.upload, image.clear):
    event(lambda: None, None, drawn, api_visibility="private")

  def show(*inputs):
    scene = handlers.find(*inputs)
    labels = handlers_lib.slot_labels(scene)
    pictures = [
      (pictures_lib.enlarge(picture), f"slot {k}")
      for k, picture in enumerate(scene.slot_pictures(), start=1)
    ]
    paints = scene.slot_images is not None
    return (
      scene,
      scene.overview(),
      pictures,
      gr.CheckboxGroup(
        labels if paints else [],
        # At first the scene is image A.
        value=labels if paints and name == handlers_lib.NAMES[0] else [],
      ),
    )

  find.click(
    show,
    [*options, image, drawn],
    [state, overlay, gallery, boxes],
    api_name=f"find_{name}",
  )
  return state, boxes
