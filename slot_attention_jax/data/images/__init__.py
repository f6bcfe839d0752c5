"""Images in files: CLEVR as prepared by TFDS, and folders.

Each source decodes into a `cached_dataset`; scenes with exact masks that are
rendered live in `data.procedural`.
"""
