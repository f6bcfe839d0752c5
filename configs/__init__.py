"""Configs of the paper's experiments; run them with `--config`."""
