"""The multi-object datasets with masks: reading, preparing, splits.

Their TFRecords become TFDS datasets; metrics and training live elsewhere.
"""
