"""Slot Attention in JAX and Flax."""
