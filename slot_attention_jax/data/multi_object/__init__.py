"""Multi-object datasets: reading, preparing, splits.

Their TFRecords become TFDS datasets; metrics and training live elsewhere.
"""
