"""CLEVR scenes and their renderer: pure functions of a key."""
