"""Configs: every key with its default, variants, and finding a config by name.

The experiments themselves are the files in `configs/`; what a key does is
decided where it is read.
"""
