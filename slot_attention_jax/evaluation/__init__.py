"""Evaluation of a split: results of each example, images, tables.

What is measured lives in `metrics` and `tasks`; the program that evaluates a
run is `slot_attention_jax.evaluate`.
"""
