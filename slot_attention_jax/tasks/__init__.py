"""The objectives: object discovery and set prediction.

A task holds a model, its loss and its scores; it knows no optimizer, no files
and no devices.
"""

from slot_attention_jax.tasks.create import create_task
from slot_attention_jax.tasks.task import SHOWN, Task
