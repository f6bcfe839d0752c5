"""Writes scenes as files that other programs read: CLEVR's JSON, TFRecords.

Reading lives in `data.images` and `data.multi_object`.
"""
