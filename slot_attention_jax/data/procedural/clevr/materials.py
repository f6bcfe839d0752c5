"""CLEVR's materials: kinds of surface and their shading constants.

The constants are fitted to 40 calibration scenes, rendered by Blender from the
original assets (`experiments/blender/fit_clevr_materials.py`).
"""

from typing import Any

import flax.struct
import numpy as np

BACKDROP, RUBBER, METAL, NOTHING = 0, 1, 2, 3
"""Kinds of surface. That of an object is 1 + its material id."""
BACKDROP_ALBEDO = 0.8


@flax.struct.dataclass
class Materials:
  """Constants of lamps and materials; linear light, without a unit.

  Attributes:
    power: [4], of the key, fill and back lamp and the sun.
    backdrop_ambient: indirect light on the backdrop.
    rubber_ambient: [10], indirect light on rubber, coefficients of the terms in
      `shading._bounces`.
    rubber_ior: [2], refractive indices of the glossy coat and the sheen.
    rubber_alpha: roughness of the glossy coat.
    rubber_gain: [4], of diffuse light, the sheen, the glossy coat, and indirect
      light on the coat.
    metal_ambient: [10], indirect light on the rough component of metal.
    metal_alpha: [2], roughness of the sharp and the rough component.
    metal_gain: [3], of mirrored surroundings, of lamps in the sharp component,
      and of the rough component.
    mirrored_metal: [2], light from metal seen in a mirror: the constant and the
      slope over the z component of its normal.
    neighbor: [4], effect of other objects on indirect light: how much they
      block on backdrop and rubber, and how much they reflect onto the two.
    mirrored_nothing: light where a mirrored ray leaves the scene.
  """

  power: Any
  backdrop_ambient: Any
  rubber_ambient: Any
  rubber_ior: Any
  rubber_alpha: Any
  rubber_gain: Any
  metal_ambient: Any
  metal_alpha: Any
  metal_gain: Any
  mirrored_metal: Any
  neighbor: Any
  mirrored_nothing: Any


FITTED = Materials(
  power=np.array([7.6262, 2.3926, 4.1457, 0.1322], np.float32),
  backdrop_ambient=np.float32(0.0231),
  rubber_ambient=np.array(
    [
      *(0.131, -0.0873, -0.0322, 0.0154, 0.0574),
      *(-0.0062, 0.0126, -0.0244, -0.0899, 0.0153),
    ],
    np.float32,
  ),
  rubber_ior=np.array([1.1495, 1.7496], np.float32),
  rubber_alpha=np.float32(0.367),
  rubber_gain=np.array([1.092, 0.713, 2.083, 0.7531], np.float32),
  metal_ambient=np.array(
    [
      *(-0.0126, -0.3133, -0.0357, 0.0191, -0.0303),
      *(-0.1089, 0.0799, 0.0357, 0.2157, 0.0045),
    ],
    np.float32,
  ),
  metal_alpha=np.array([0.0503, 0.3115], np.float32),
  metal_gain=np.array([0.7149, 0.5701, 0.3239], np.float32),
  mirrored_metal=np.array([0.1483, -0.0504], np.float32),
  neighbor=np.array([1.9228, 1.7818, 0.17, 0.2047], np.float32),
  mirrored_nothing=np.float32(0.0216),
)
"""Constants fitted to Blender's renderings."""
