"""Flax modules: slot attention, encoder, decoder, position, convolution."""
