"""Flax modules: slot attention, encoder, decoder, position embedding, GRU.

`convolution` holds their convolutions. Whole models are in `models`; nothing
here reads a config or knows a dataset.
"""
