"""Metrics of segmentations, of predicted sets and of reconstructions.

Pure functions of arrays, with values for each image where they have them.
Means over a dataset live in `tasks`, losses in `slot_attention_jax.losses`.
"""
