"""The still parts of a drawn street scene: ground, buildings and trees (see :mod:`furnace.datasets.scenes`)."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from furnace.datasets.scene_canvas import BUILDING, NEAR, PAVEMENT, ROAD, TREE, Stage, circle, one_of, pick, value_noise

# --- ground ----------------------------------------------------------------------------------------------------------

ASPHALT = [(0.3, 0.3, 0.31), (0.22, 0.22, 0.24), (0.42, 0.41, 0.4), (0.5, 0.48, 0.46), (0.34, 0.3, 0.28)]
PAVING = [
    (0.5, 0.49, 0.47),
    (0.62, 0.58, 0.52),
    (0.42, 0.41, 0.42),
    (0.56, 0.4, 0.34),
    (0.36, 0.36, 0.36),
    (0.7, 0.69, 0.66),
]


@dataclass(frozen=True)
class Street:
    """The plan of a street; the camera stands at x = 0, z = 0 and looks along it."""

    left: float  # metres; x of the left kerb, negative
    right: float  # metres; x of the right kerb
    pavements: tuple[float, float]  # metres; widths left and right
    crossing: tuple[float, float] | None  # metres; from z to z, a street from left to right

    def kerb(self, side: int) -> float:
        """x of the kerb on a side, -1 left or 1 right."""
        return self.left if side < 0 else self.right

    def front(self, side: int) -> float:
        """x of the houses on a side."""
        return self.kerb(side) + side * self.pavements[int(side > 0)]

    def open_at(self, z: float) -> bool:
        """Whether the crossing street passes at this depth."""
        return self.crossing is not None and self.crossing[0] < z < self.crossing[1]


def draw_ground(stage: Stage, street: Street) -> None:
    """Road, lane markings and pavements, down from the horizon."""
    canvas, rng, light = stage.canvas, stage.rng, stage.light
    height, width = canvas.label.shape
    x, z = stage.camera.ground(height, width)
    below = np.isfinite(z)
    x, z = x[below], np.minimum(z[below], 300)  # from here on one value for each pixel of the ground
    road = (x > street.left) & (x < street.right)
    if street.crossing:
        road |= (z > street.crossing[0]) & (z < street.crossing[1])
    colour = np.empty((len(x), 3), np.float32)
    colour[road] = _road_colour(rng, street, x[road], z[road])
    colour[~road] = _pavement_colour(rng, street, x[~road], z[~road])
    grain = 0.8 + 0.22 * value_noise(rng, height, width, 7)[below] + 0.18 * rng.random(len(x), dtype=np.float32)
    colour *= (grain * _cast_shadow(stage, street, x, z) * (1 - 0.35 * light.wet))[:, None]
    if light.wet:
        mirror = light.wet * np.clip(value_noise(rng, height, width, 16)[below] * 1.6 - 0.5, 0, 0.7)
        colour += (light.sky_low - colour) * mirror[:, None]
    if light.snow:
        cover = np.clip((value_noise(rng, height, width, 12)[below] - 1 + light.snow) * 4, 0, 0.9)
        colour += (0.85 - colour) * cover[:, None]
    canvas.colour[below] = colour
    canvas.label[below] = np.where(road, ROAD, PAVEMENT)
    canvas.depth[below] = z


def _road_colour(rng, street, x, z):
    patch = rng.random((32, 32), dtype=np.float32)
    tone = 0.9 + 0.2 * patch[_cell(x, 3.1) & 31, _cell(z, 7.3) & 31]
    colour = pick(rng, ASPHALT, 0.02) * tone[:, None]
    paint = pick(rng, [(0.85, 0.85, 0.83), (0.85, 0.85, 0.83), (0.8, 0.7, 0.3)], 0.02)
    lanes = max(1, round((street.right - street.left) / rng.uniform(2.8, 4)))
    marks, dash = np.zeros(len(x), bool), z % 6
    for line in np.linspace(street.left, street.right, lanes + 1)[1:-1]:
        marks |= (np.abs(x - line) < 0.09) & (dash < one_of(rng, (2.5, 6)))
    if rng.random() < 0.5:
        marks |= (np.abs(x - street.left - 0.4) < 0.07) | (np.abs(x - street.right + 0.4) < 0.07)
    if rng.random() < 0.4:  # a zebra crossing
        start = rng.uniform(5, 20)
        marks |= (z > start) & (z < start + 3) & (x % 1.1 < 0.55)
    marks &= (z < 60) & (x > street.left) & (x < street.right)
    colour[marks] = paint * rng.uniform(0.6, 1)
    return colour


def _pavement_colour(rng, street, x, z):
    tile, contrast = rng.uniform(0.4, 1.2), one_of(rng, (0.0, 0.15, 0.3)) * np.minimum(1, 8 / z)
    tone = rng.random((32, 32), dtype=np.float32)[_cell(x, tile) & 31, _cell(z, tile) & 31]
    joint = ((x % tile < 0.07) | (z % tile < 0.09)) & (z < 14)
    colour = pick(rng, PAVING, 0.03) * (1 + contrast * (tone - 0.5 - joint))[:, None]
    kerb = np.minimum(np.abs(x - street.left), np.abs(x - street.right)) < 0.2
    colour[kerb] = colour[kerb] * 0.5 + rng.uniform(0.15, 0.35)
    return colour


def _cell(x, size):
    return np.floor(x / size).astype(np.int32)


def _cast_shadow(stage, street, x, z):
    """Shadow of the houses that stand between the sun and the street."""
    side, rng = (1 if stage.light.sun[0] > 0 else -1), stage.rng
    skyline = rng.uniform(-3, 6, 16).astype(np.float32)[_cell(z, 9) & 15]
    reach = (street.front(side) - x) * side  # metres from those houses
    return 1 - 0.6 * min(1, stage.light.strength) * (reach < skyline + rng.uniform(-2, 4))


# --- buildings -------------------------------------------------------------------------------------------------------

WALLS = [
    (0.55, 0.54, 0.53), (0.4, 0.41, 0.43), (0.7, 0.66, 0.58), (0.55, 0.3, 0.24), (0.45, 0.26, 0.2), (0.8, 0.78, 0.74),
    (0.72, 0.6, 0.4), (0.5, 0.56, 0.6), (0.62, 0.45, 0.42), (0.28, 0.28, 0.3), (0.45, 0.55, 0.42), (0.75, 0.5, 0.4),
]  # fmt: skip
ROOFS = [(0.5, 0.22, 0.16), (0.3, 0.28, 0.28), (0.4, 0.36, 0.34), (0.22, 0.24, 0.28)]
PANES = [(0.12, 0.13, 0.15), (0.2, 0.24, 0.28), (0.08, 0.08, 0.08)]
SHOPS = [
    (0.7, 0.12, 0.12),
    (0.1, 0.35, 0.6),
    (0.1, 0.45, 0.25),
    (0.85, 0.75, 0.2),
    (0.9, 0.9, 0.88),
    (0.15, 0.15, 0.17),
]


@dataclass(frozen=True)
class WallStyle:
    """What the walls of one building have in common."""

    colour: np.ndarray
    roof: np.ndarray
    shop: np.ndarray
    window: np.ndarray
    pitch: tuple[float, float]  # metres from window to window, along and up
    opening: tuple[float, float]  # the part of that which is glass
    brick: float  # contrast of the courses
    ground_floor: float  # metres; 0: no shops
    table: np.ndarray  # random numbers (64, 64), so that each window and brick differs


def wall_style(stage: Stage) -> WallStyle:
    """A random style; the glass mirrors this scene's sky."""
    rng, light = stage.rng, stage.light
    glassy = rng.random() < 0.15
    return WallStyle(
        colour=pick(rng, WALLS), roof=pick(rng, ROOFS), shop=pick(rng, SHOPS),
        window=light.sky_low * 0.8 if glassy else pick(rng, PANES),
        pitch=(rng.uniform(1.6, 3.6), rng.uniform(2.7, 3.8)),
        opening=(0.92, 0.85) if glassy else (rng.uniform(0.3, 0.75), rng.uniform(0.35, 0.65)),
        brick=one_of(rng, (0.0, 0.12, 0.3)), ground_floor=one_of(rng, (0.0, 3.2, 3.8)),
        table=rng.random((64, 64), dtype=np.float32),
    )  # fmt: skip


def _table(style, i, j):
    return style.table[i.astype(np.int32) & 63, j.astype(np.int32) & 63]


def draw_wall(stage: Stage, base, height: float, style: WallStyle, normal) -> None:
    """An upright wall over the ground line ``base``, two points (x, z), with windows, bricks and shops."""
    (x0, z0), (x1, z1) = base
    corners = [(x0, 0, z0), (x1, 0, z1), (x1, height, z1), (x0, height, z0)]
    quad = stage.camera.project(corners)
    region = stage.canvas.region(quad)
    if region is None:
        return
    length = math.hypot(x1 - x0, z1 - z0)
    plane = np.array([(0, 0), (length, 0), (length, height), (0, height)], np.float32)
    s, t = _plane_coordinates(quad, plane, region)
    z = np.clip(z0 + (z1 - z0) * s / length, NEAR, None).astype(np.float32)
    colour = _wall_colour(stage, style, s, t, z, height) * stage.shade(normal)
    stage.canvas.paint(region, colour, BUILDING, z)


def _plane_coordinates(quad, plane, region):
    """Where on the plane each of the n pixels of a region lies: two arrays (n,) float32."""
    matrix = cv2.getPerspectiveTransform(quad.astype(np.float32), plane)
    (rows, columns), mask = region
    v, u = np.nonzero(mask)
    u, v = (u + columns.start).astype(np.float32), (v + rows.start).astype(np.float32)
    a, b, c = (row[0] * u + row[1] * v + row[2] for row in matrix.astype(np.float32))
    c = np.where(np.abs(c) < 1e-6, np.float32(1e-6), c)
    return np.clip(a / c, -500, 500), np.clip(b / c, -500, 500)


def _wall_colour(stage, style, s, t, z, height):
    fine = style.brick * np.minimum(1, 9 / z)  # courses melt together far away
    course = np.floor(t / 0.3)
    brick = 1 + fine * (_table(style, np.floor(s / 0.6 + 0.5 * course), course) - 0.5)
    stain = 0.9 + 0.2 * _table(style, np.floor(s / 2.1), np.floor(t / 5))
    colour = style.colour * (brick * stain)[:, None]

    i, j = s / style.pitch[0], (t - style.ground_floor) / style.pitch[1]
    dx, dy = np.abs(i - np.floor(i) - 0.5) * 2, np.abs(j - np.floor(j) - 0.5) * 2
    upper = (j > 0) & (t < height - 0.5)
    colour[upper & (dx < style.opening[0] + 0.12) & (dy < style.opening[1] + 0.1)] *= 1.2
    glass = upper & (dx < style.opening[0]) & (dy < style.opening[1])
    colour[glass] = _glass(stage, style, i[glass], j[glass])
    colour[t > height - 0.4] *= 0.8
    if style.ground_floor:
        shop = (t < style.ground_floor - 0.8) & (dx < 0.85) & (t > 0.4)
        colour[shop] = _glass(stage, style, i[shop], j[shop] - 1)
        colour[(t > style.ground_floor - 0.8) & (t < style.ground_floor)] = style.shop
    return colour


def _glass(stage, style, i, j):
    tone = _table(style, np.floor(i) + 7, np.floor(j) + 11)
    colour = style.window * (0.6 + 0.8 * tone)[:, None] + stage.light.sky_low * (0.35 * tone**2)[:, None]
    colour[_table(style, np.floor(i) + 31, np.floor(j) + 3) < stage.light.lit] = (1.9, 1.5, 0.9)
    return colour


def draw_building(stage: Stage, side: int, x: float, near: float, far: float, height: float) -> None:
    """A house on one side of the street (-1 left, 1 right): the walls along the street and towards the camera."""
    style, deep = wall_style(stage), 9.0
    outer = x + side * deep
    if height < 9 and stage.rng.random() < 0.7:
        _draw_roof(stage, style, (x, outer), (near, far), height)
    draw_wall(stage, ((x, near), (outer, near)), height, style, (0, 0, -1))
    draw_wall(stage, ((x, near), (x, far)), height, style, (-side, 0, 0))


def _draw_roof(stage, style, across, along, height):
    ridge, middle = height + stage.rng.uniform(1.5, 3), (across[0] + across[1]) / 2
    (x0, x1), (z0, z1) = across, along
    slope = [(x0, height, z0), (x0, height, z1), (middle, ridge, z1), (middle, ridge, z0)]
    gable = [(x0, height, z0), (x1, height, z0), (middle, ridge, z0)]
    stage.canvas.fill(stage.camera.project(slope), style.roof * stage.shade((0, 1, 0)), BUILDING, (z0 + z1) / 2)
    stage.canvas.fill(stage.camera.project(gable), style.colour * stage.shade((0, 0, -1)), BUILDING, z0)


# --- trees -----------------------------------------------------------------------------------------------------------

LEAVES = [
    (0.2, 0.36, 0.12), (0.14, 0.28, 0.12), (0.34, 0.42, 0.14), (0.26, 0.32, 0.2),
    (0.5, 0.4, 0.12), (0.48, 0.22, 0.1), (0.34, 0.28, 0.22), (0.18, 0.34, 0.22),
]  # fmt: skip
BARKS = [(0.25, 0.2, 0.15), (0.35, 0.33, 0.3), (0.15, 0.13, 0.12)]


def draw_tree(stage: Stage, x: float, z: float, height: float, leaves: np.ndarray, kind: str) -> None:
    """A tree: ``kind`` is 'round', 'cone' or 'bush' (no trunk)."""
    canvas, rng, scale = stage.canvas, stage.rng, stage.camera.focal / max(z, NEAR)
    foot, top = stage.camera.project([(x, 0, z), (x, height, z)])
    if kind != 'bush':
        w = max(0.5, 0.022 * height * scale)
        bark = pick(rng, BARKS) * stage.shade((0, 0, -1))
        middle = (foot + top) / 2
        trunk = np.array([foot, foot, middle, middle])
        trunk[:, 0] += (-w, w, w / 2, -w / 2)
        canvas.fill(trunk, bark, TREE, z)
    blobs = _cone(rng, foot, top) if kind == 'cone' else _crown(rng, foot, top, kind == 'bush')
    region = canvas.region(*blobs)
    if region is None:
        return
    (rows, columns), mask = region
    noise = value_noise(rng, *mask.shape, max(1.3, 0.28 * scale)) + 0.6 * rng.random(mask.shape, dtype=np.float32)
    towards = (np.arange(columns.start, columns.stop) - foot[0]) / (height * scale) * stage.light.sun[0]
    upwards = (foot[1] - np.arange(rows.start, rows.stop)) / (height * scale) - 0.6
    tone = 0.45 + 0.55 * noise + stage.light.strength * (towards[None] + 0.5 * upwards[:, None])
    canvas.paint(region, leaves * np.clip(tone[mask], 0.2, 1.8)[:, None], TREE, z)


def _ragged(rng, centre, radii, corners=18):
    return centre + (circle((0, 0), 1, corners) * rng.uniform(0.78, 1.15, (corners, 1))) * radii


def _crown(rng, foot, top, bush):
    size, lowest = foot[1] - top[1], 0.45 if bush else rng.uniform(0.3, 0.5)
    centre = foot + (top - foot) * (1 + lowest) / 2
    wide, high = size * rng.uniform(0.24, 0.4) * (2 if bush else 1), size * (1 - lowest) / 2 * (1.6 if bush else 1)
    offsets = rng.uniform(-0.6, 0.6, (2 if size < 15 else 6, 2)) * (wide, high)  # small ones are blobs anyway
    return [_ragged(rng, centre, (wide * 0.8, high * 0.85))] + [
        _ragged(rng, centre + offset, np.array((wide, high)) * rng.uniform(0.35, 0.6)) for offset in offsets
    ]


def _cone(rng, foot, top):
    size, wide = foot[1] - top[1], rng.uniform(0.16, 0.26)
    tiers = []
    for low, high, w in ((0.12, 0.6, 1), (0.35, 0.8, 0.75), (0.58, 1, 0.5)):
        y0, y1, half = foot[1] - low * size, foot[1] - high * size, w * wide * size
        tiers.append(np.array([(foot[0] - half, y0), (foot[0], y0 + 0.03 * size), (foot[0] + half, y0), (foot[0], y1)]))
    return tiers
