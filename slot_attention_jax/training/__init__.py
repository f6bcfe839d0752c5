"""What the training loop is made of: state, steps, checkpoints, metric writers.

The loop itself is `slot_attention_jax.train`; models, losses and data live in
rooms of their own.
"""
