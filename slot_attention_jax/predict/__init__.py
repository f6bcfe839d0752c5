"""Slots of one's own images, by trained weights: `sa.predict` and the command.

`python -m slot_attention_jax.predict` is `slot-attention predict`.
"""
