"""The camera, the canvas and the light that street scenes are drawn with (see :mod:`furnace.datasets.scenes`).

Every shape is filled with the same polygon in the picture, the label map and the depth map, so that labels match to the
pixel. World coordinates are metres: x to the right, y up from the ground, z ahead. Colours are float RGB in 0..1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

SKY, BUILDING, TREE, ROAD, PAVEMENT, CAR, PERSON, SIGN = range(8)

NEAR = 0.8  # metres; points closer to the camera are pushed out to here
SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Camera:
    """A pinhole camera over a road that bends: x grows by ``bend * z**2``."""

    focal: float  # pixels
    centre_x: float  # pixels; column of the vanishing point
    horizon: float  # pixels; its row
    height: float  # metres
    roll: float  # radians
    bend: float  # 1 / metre

    @cached_property
    def _axes(self):
        """Pixels that one metre to the right and one metre up take at a depth of one metre, (2, 2)."""
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        return self.focal * np.array([(cos, sin), (sin, -cos)])

    def project(self, points) -> np.ndarray:
        """World points (N, 3) → pixel positions (N, 2), float."""
        points = np.asarray(points, dtype=np.float64)
        z = np.maximum(points[:, 2:], NEAR)
        eye = (0, self.height)
        return (points[:, :2] - eye) @ self._axes / z + z * (self.bend * self._axes[0]) + (self.centre_x, self.horizon)

    def facing(self, x: float, z: float) -> tuple[np.ndarray, np.ndarray]:
        """The upright plane at (x, z) that faces the camera: pixels = points (right, up) @ matrix (2, 2) + foot."""
        return self._axes / max(z, NEAR), self.project([(x, 0, z)])[0]

    def ground(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The ground that each pixel looks at: x and z in metres, each (H, W) float32; z is inf above the horizon."""
        v, u = np.mgrid[:height, :width].astype(np.float32)
        u, v = u - self.centre_x, v - self.horizon
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        p, q = u * cos + v * sin, v * cos - u * sin
        z = self.focal * self.height / np.maximum(q, 0.3)
        return p * z / self.focal - self.bend * z * z, np.where(q > 0, z, np.float32(np.inf))


class Canvas:
    """Colour before lighting (H, W, 3) float32, label (H, W) uint8 and depth in metres (H, W) float32."""

    def __init__(self, height: int, width: int):
        self.colour = np.zeros((height, width, 3), np.float32)
        self.label = np.full((height, width), SKY, np.uint8)
        self.depth = np.full((height, width), np.inf, np.float32)

    def fill(self, points: np.ndarray, colour, class_id: int, depth: float) -> None:
        """Fill one polygon (N, 2) with a flat colour."""
        points = [_fixed_point(points)]
        cv2.fillPoly(self.colour, points, tuple(map(float, colour)), cv2.LINE_8, SUBPIXEL_BITS)
        cv2.fillPoly(self.label, points, class_id, cv2.LINE_8, SUBPIXEL_BITS)
        cv2.fillPoly(self.depth, points, float(depth), cv2.LINE_8, SUBPIXEL_BITS)

    def region(self, *polygons):
        """The union of polygons: a box of two slices and a mask (h, w) inside it; None if outside the picture."""
        corners = np.concatenate(polygons)
        left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 1, 0)
        right, bottom = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 2, self.label.shape[::-1])
        if right <= left or bottom <= top:
            return None
        mask = np.zeros((bottom - top, right - left), np.uint8)
        for polygon in polygons:
            cv2.fillPoly(mask, [_fixed_point(polygon - (left, top))], 1, cv2.LINE_8, SUBPIXEL_BITS)
        return (slice(top, bottom), slice(left, right)), mask.astype(bool)

    def paint(self, region, colour, class_id: int, depth) -> None:
        """Fill a region whose mask has n pixels with colours (n, 3) and a depth, one or (n,)."""
        box, mask = region
        self.colour[box][mask] = colour
        self.label[box][mask] = class_id
        self.depth[box][mask] = depth

    def darken(self, points: np.ndarray, factor: float) -> None:
        """A cast shadow: changes the colour alone."""
        region = self.region(points)
        if region:
            box, mask = region
            self.colour[box][mask] *= factor


@dataclass(frozen=True)
class Light:
    """The weather of a scene."""

    sun: np.ndarray  # unit vector towards the sun
    strength: float  # 0: no shadows, 1: hard sunlight
    colour: np.ndarray  # of the light on objects
    sky_top: np.ndarray
    sky_low: np.ndarray
    clouds: float  # covered part of the sky
    haze: float  # 1 / metre
    lit: float  # part of the windows with a lamp on
    wet: float
    snow: float


@dataclass(frozen=True)
class Stage:
    """All that a drawing function needs."""

    canvas: Canvas
    camera: Camera
    light: Light
    rng: np.random.Generator

    def shade(self, normal) -> float:
        """Brightness of a surface with this outward normal."""
        return 1 - self.light.strength * (0.55 - 0.65 * max(0.0, float(np.dot(normal, self.light.sun))))


def value_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Smooth noise (height, width) float32 in about 0..1 with bumps of ``cell`` pixels."""
    rows, columns = max(2, math.ceil(height / cell) + 1), max(2, math.ceil(width / cell) + 1)
    grid = rng.random((rows, columns), dtype=np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def one_of(rng: np.random.Generator, values: Sequence):
    """One of a few values; much faster than ``rng.choice``."""
    return values[int(rng.integers(len(values)))]


def pick(rng: np.random.Generator, palette: Sequence, spread: float = 0.06) -> np.ndarray:
    """One colour of a palette, a little changed."""
    colour = np.array(one_of(rng, palette)) * rng.uniform(0.75, 1.2) + rng.normal(0, spread, 3)
    return colour.clip(0.02, 1).astype(np.float32)


def circle(centre, radius, corners: int = 14) -> np.ndarray:
    """A circle, or with few corners a regular polygon, as (corners, 2)."""
    return _unit_circle(corners) * radius + centre


@lru_cache
def _unit_circle(corners):
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + np.pi / corners
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


WEATHERS = {  # sky above, sky at the horizon, light, strength of the sun, clouds, haze, brightness, lit windows
    'clear': ((0.25, 0.45, 0.8), (0.68, 0.8, 0.92), (1.05, 1.0, 0.92), 0.8, 0.15, 0.003, 1.15, 0.0),
    'cloudy': ((0.35, 0.5, 0.75), (0.75, 0.8, 0.85), (1.0, 1.0, 1.0), 0.5, 0.6, 0.005, 1.05, 0.02),
    'overcast': ((0.6, 0.63, 0.67), (0.75, 0.76, 0.78), (0.95, 0.98, 1.02), 0.12, 0.8, 0.008, 0.9, 0.08),
    'golden': ((0.4, 0.45, 0.65), (0.95, 0.75, 0.5), (1.2, 0.95, 0.7), 0.75, 0.4, 0.007, 0.95, 0.1),
    'dusk': ((0.12, 0.14, 0.28), (0.42, 0.34, 0.4), (0.75, 0.75, 1.0), 0.1, 0.5, 0.006, 0.65, 0.4),
    'fog': ((0.72, 0.74, 0.76), (0.76, 0.77, 0.78), (0.95, 0.97, 1.0), 0.05, 0.1, 0.03, 0.9, 0.1),
}


def draw_light(rng: np.random.Generator) -> Light:
    """A random :class:`Light`."""
    top, low, colour, strength, clouds, haze, brightness, lit = WEATHERS[list(WEATHERS)[rng.integers(len(WEATHERS))]]
    azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.3, 1.1)
    sun = (math.sin(azimuth) * math.cos(elevation), math.sin(elevation), math.cos(azimuth) * math.cos(elevation))
    cast = 1 + rng.normal(0, 0.05, 3)  # white balance
    return Light(
        sun=np.array(sun), strength=strength * rng.uniform(0.7, 1.2),
        colour=(colour * cast * brightness * rng.uniform(0.85, 1.2)).astype(np.float32),
        sky_top=(top * cast * rng.uniform(0.85, 1.15)).astype(np.float32),
        sky_low=(low * cast * rng.uniform(0.85, 1.1)).astype(np.float32),
        clouds=clouds * rng.uniform(0.3, 1.2), haze=haze * rng.uniform(0.5, 2), lit=lit * rng.uniform(0.3, 1.5),
        wet=max(0.0, rng.uniform(-1, 1)) * (1 - strength), snow=rng.uniform(0.3, 0.9) if rng.random() < 0.08 else 0.0,
    )  # fmt: skip


def develop(stage: Stage) -> np.ndarray:
    """The canvas under the light of the scene, through haze and a real lens and sensor: (H, W, 3) uint8 RGB."""
    canvas, light, rng = stage.canvas, stage.light, stage.rng
    height, width = canvas.label.shape
    clear = np.exp(-light.haze * canvas.depth)[..., None]  # 0 in the sky, whose depth is infinite
    image = canvas.colour * light.colour * clear + _sky(stage) * (1 - clear)
    v, u = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    image *= (1 - rng.uniform(0, 0.25) * (v[:, None] ** 2 + u**2) / 2)[..., None]
    grey = (image[..., :1] + image[..., 1:2] + image[..., 2:]) / 3
    image = grey + (image - grey) * np.float32(rng.uniform(0.5, 1.3))
    image = np.clip(image, 0, 1) ** np.float32(rng.uniform(0.75, 1.25))
    image = cv2.GaussianBlur(image, (5, 5), rng.uniform(0.35, 0.85) * max(1, height / 256))
    noise = rng.random(image.shape, dtype=np.float32) + rng.random(image.shape, dtype=np.float32) - 1
    image += rng.uniform(0.015, 0.075) * noise  # two uniform numbers: bell-like, and much faster than normal ones
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _sky(stage):
    light, rng, (height, width) = stage.light, stage.rng, stage.canvas.label.shape
    horizon = stage.camera.horizon
    up = np.clip(1 - np.arange(height, dtype=np.float32) / horizon, 0, 1)[:, None]
    clouds = sum(value_noise(rng, height, width, height / k) / k for k in (2, 5, 11)) / 0.8
    cover = np.clip((clouds - 1 + light.clouds) * 3, 0, 1) * np.minimum(1, up * 4)
    white = (light.sky_low * 0.5 + 0.5 * light.colour) * rng.uniform(0.75, 1.05)
    blue = light.sky_low + (light.sky_top - light.sky_low) * up[..., None] ** 0.7
    return blue + (white - blue) * cover[..., None]


def _fixed_point(points):
    return np.rint(points * (1 << SUBPIXEL_BITS)).astype(np.int32)
