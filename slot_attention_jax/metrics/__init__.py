"""Metrics of segmentations and of predicted sets."""
