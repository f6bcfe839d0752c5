"""CLEVR scenes and their renderer: pure functions of a key."""

from slot_attention_jax.data.procedural.clevr.family import Clevr
