"""Procedural textures of objects and backdrop."""


def albedo(s, body, palette, point, index):
  raise NotImplementedError
