"""The movable things of a drawn street scene: cars, people and signs (see :mod:`furnace.datasets.scenes`)."""

import math
from functools import lru_cache

import numpy as np

from furnace.datasets.scene_canvas import CAR, PERSON, SIGN, Stage, circle, one_of, pick

# --- cars ------------------------------------------------------------------------------------------------------------

PAINTS = [
    (0.08, 0.08, 0.09), (0.2, 0.21, 0.22), (0.45, 0.46, 0.47), (0.75, 0.76, 0.77), (0.9, 0.9, 0.88), (0.55, 0.08, 0.08),
    (0.1, 0.18, 0.45), (0.15, 0.35, 0.6), (0.12, 0.3, 0.18), (0.75, 0.6, 0.15), (0.4, 0.32, 0.25), (0.7, 0.35, 0.12),
]  # fmt: skip
GLASS = [(0.1, 0.11, 0.13), (0.2, 0.24, 0.28), (0.05, 0.05, 0.05)]
# metres: length, width, height, height of the waist; shares of the length: boot behind the cabin, bonnet before it
SHAPES = [
    (3.9, 1.75, 1.5, 0.9, 0.03, 0.27), (4.6, 1.8, 1.45, 0.88, 0.19, 0.28), (4.7, 1.95, 1.8, 1.05, 0.02, 0.25),
    (5.4, 2.05, 2.4, 1.15, 0.0, 0.13), (3.3, 1.6, 1.52, 0.92, 0.02, 0.2), (7.0, 2.3, 2.9, 1.2, 0.0, 0.04),
]  # fmt: skip
SHAPE_SHARES = [0.28, 0.25, 0.2, 0.12, 0.1, 0.05]
SIDES = ((0, 1), (1, 2), (2, 3), (3, 0))  # rear, right, front, left


class _Car:
    """One car on the stage: its own axes are along (to its front), up and across (to its right), in metres."""

    def __init__(self, stage, x, z, yaw):
        self.stage, self.x, self.z, self.yaw = stage, x, z, yaw
        sin, cos = math.sin(yaw), math.cos(yaw)
        self.axes = np.array([(sin, 0, cos), (0, 1, 0), (cos, 0, -sin)])
        rng = stage.rng
        shape = SHAPES[rng.choice(len(SHAPES), p=SHAPE_SHARES)]
        self.length, self.width, self.height, self.waist, self.boot, self.bonnet = shape
        self.paint = pick(rng, PAINTS)
        self.glass = pick(rng, GLASS) + stage.light.sky_low * rng.uniform(0, 0.3)

    def world(self, points):
        return np.asarray(points, dtype=np.float64) @ self.axes + (self.x, 0, self.z)

    def fill(self, points, colour):
        self.stage.canvas.fill(self.stage.camera.project(self.world(points)), colour, CAR, self.z)

    def deck(self, rear, front, up, inset):
        """A level rectangle: rear left, rear right, front right, front left."""
        half = self.width / 2 - inset
        return np.array([(rear, up, -half), (rear, up, half), (front, up, half), (front, up, -half)])

    def faces(self, bottom, top):
        """The sides between two decks that the camera sees: (index into SIDES, corners, brightness)."""
        for index, (i, j) in enumerate(SIDES):
            face = np.array([bottom[i], bottom[j], top[j], top[i]])
            a, b, c = self.stage.camera.project(self.world(face[[0, 1, 3]]))
            if (b[0] - a[0]) * (c[1] - a[1]) < (b[1] - a[1]) * (c[0] - a[0]):
                angle = self.yaw + (np.pi, np.pi / 2, 0, -np.pi / 2)[index]
                yield index, face, self.stage.shade((math.sin(angle), 0, math.cos(angle)))


def _inset(face, left, right, low, high):
    """A part of a four-cornered face, in shares of its width and height."""
    return _weights(left, right, low, high) @ face


@lru_cache
def _weights(left, right, low, high):
    corners = ((left, low), (right, low), (right, high), (left, high))
    return np.array([((1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t) for s, t in corners])


def draw_car(stage: Stage, x: float, z: float, yaw: float) -> None:
    """A car whose middle stands at (x, z); yaw 0 drives away from the camera, pi towards it."""
    car = _Car(stage, x, z, yaw)
    rear, front = -car.length / 2, car.length / 2
    shadow = car.world(car.deck(rear - 0.2, front + 0.2, 0, -0.25))
    stage.canvas.darken(stage.camera.project(shadow), 0.35)
    sill, waist = car.deck(rear, front, 0.22, 0.02), car.deck(rear + 0.05, front - 0.1, car.waist, 0.05)
    _draw_wheels(car, under=True)
    for index, face, shade in car.faces(sill, waist):
        car.fill(face, car.paint * shade)
        car.fill(_inset(face, 0, 1, 0, 0.22), car.paint * shade * 0.55)
        _draw_ends(car, index, face)
    car.fill(waist, car.paint * stage.shade((0, 1, 0)))
    _draw_wheels(car, under=False)
    start, end = rear + car.boot * car.length, front - car.bonnet * car.length
    slope = 0.5 if car.boot < 0.1 else 0.9
    roof = car.deck(start + 0.3 * slope, end - min(0.9, 4 * car.bonnet), car.height, 0.2)
    for index, face, shade in car.faces(car.deck(start, end, car.waist, 0.06), roof):
        car.fill(face, car.paint * shade)
        for window in ((0.06, 0.48), (0.53, 0.94)) if index % 2 else ((0.07, 0.93),):
            car.fill(_inset(face, *window, 0.08, 0.86), car.glass * shade)
    car.fill(roof, car.paint * stage.shade((0, 1, 0)) * 1.05)


def _draw_ends(car, index, face):
    """Lamps and number plate, at the rear (0) and the front (2)."""
    if index % 2 or car.z > 30:  # too small to see
        return
    glow = 2.0 if car.stage.light.lit > 0.2 else 1.0
    lamp = np.array((0.7, 0.06, 0.05) if index == 0 else (0.9, 0.9, 0.8)) * glow
    for left, right in ((0.03, 0.2), (0.8, 0.97)):
        car.fill(_inset(face, left, right, 0.55, 0.8), lamp)
    car.fill(_inset(face, 0.38, 0.62, 0.3, 0.45), (0.85, 0.85, 0.75))
    if index == 2:
        car.fill(_inset(face, 0.26, 0.74, 0.52, 0.72), (0.1, 0.1, 0.1))


def _draw_wheels(car, under):
    """First the wheels seen under the far side, then those of the sides that face the camera."""
    away = car.x * math.cos(car.yaw) - car.z * math.sin(car.yaw)  # of the car's middle along its own right
    for side in (-1, 1):
        visible = side * (away + side * car.width / 2) < 0
        if visible == under:
            continue
        for along in (-0.31, 0.31):
            car.fill(_disc(along * car.length, side * car.width / 2, 0.34), (0.05, 0.05, 0.06))
            if not under and car.z < 30:
                car.fill(_disc(along * car.length, side * car.width / 2, 0.2), (0.4, 0.4, 0.42))


def _disc(along, across, radius):
    disc = np.empty((12, 3))
    disc[:, :2], disc[:, 2] = circle((along, 0.34), radius, 12), across
    return disc


# --- people ----------------------------------------------------------------------------------------------------------

SKIN = [(0.85, 0.65, 0.52), (0.7, 0.5, 0.38), (0.45, 0.3, 0.22), (0.28, 0.18, 0.13)]
HAIR = [(0.08, 0.06, 0.05), (0.25, 0.16, 0.1), (0.6, 0.48, 0.28), (0.55, 0.55, 0.55), (0.5, 0.15, 0.1)]
TROUSERS = [(0.12, 0.14, 0.22), (0.1, 0.1, 0.1), (0.5, 0.45, 0.38)]


def draw_person(stage: Stage, x: float, z: float) -> None:
    """A person who stands or walks at (x, z), in clothes of any colour."""
    rng, lit = stage.rng, stage.shade((0, 0, -1))
    size = rng.uniform(1.5, 1.95) if rng.random() < 0.85 else rng.uniform(1.0, 1.4)
    plane, foot = stage.camera.facing(x, z)
    plane = np.array([(size * rng.uniform(0.85, 1.35),), (size,)]) * plane

    def fill(points, colour):  # points (right, up) in shares of the height
        stage.canvas.fill(np.asarray(points) @ plane + foot, colour, PERSON, z)

    ground = circle((0, 0), (0.32, 0.16)) * size + (x, z)
    stage.canvas.darken(stage.camera.project(np.insert(ground, 1, 0, axis=1)), 0.55)
    skin, coat = pick(rng, SKIN, 0.02) * lit, rng.random(3) * rng.uniform(0.3, 1) * lit
    _fill_legs(fill, pick(rng, TROUSERS, 0.1) * lit, rng)
    _fill_body(fill, coat, skin, -np.sign(stage.light.sun[0]), rng)
    if rng.random() < 0.35:  # a bag, in the hand or on the shoulder
        side, low = one_of(rng, (-1, 1)) * rng.uniform(0.1, 0.16), one_of(rng, (0.42, 0.57))
        bag = [(side - 0.06, low), (side + 0.06, low), (side + 0.05, low + 0.2), (side - 0.05, low + 0.2)]
        fill(bag, rng.random(3) * lit)
    fill([(-0.025, 0.82), (0.025, 0.82), (0.025, 0.88), (-0.025, 0.88)], skin * 0.85)
    fill(circle((0, 0.93), (0.056, 0.072)), pick(rng, HAIR, 0.02) * lit)
    if rng.random() < 0.7:  # turned to the camera
        fill(circle((rng.uniform(-0.02, 0.02), 0.915), (0.042, 0.052)), skin)


def _fill_legs(fill, colour, rng):
    if rng.random() < 0.2:  # a skirt or a long coat
        fill([(-0.08, 0.52), (0.08, 0.52), (0.13, 0.25), (-0.13, 0.25)], rng.random(3) * 0.7)
    stride = rng.uniform(-0.13, 0.13)
    for side in (-1, 1):
        hip, foot, tone = side * 0.05, side * (0.04 + stride), 0.85 if side < 0 else 1.0
        leg = [(hip - 0.05, 0.5), (hip + 0.05, 0.5), (foot + 0.03, 0.03), (foot - 0.03, 0.03)]
        fill(leg, colour * tone)
        fill([(foot - 0.04, 0), (foot + 0.05, 0), (foot + 0.04, 0.045), (foot - 0.03, 0.045)], (0.08, 0.07, 0.07))


def _fill_body(fill, coat, skin, dark, rng):
    """Arms and trunk; ``dark`` is the side away from the sun, -1 left or 1 right."""
    hem, swing = one_of(rng, (0.44, 0.5, 0.28)), rng.uniform(-0.12, 0.12)  # jacket, shirt or coat
    for side in (-1, 1):
        hand = side * (0.13 + swing)
        fill([(side * 0.09, 0.81), (side * 0.13, 0.8), (hand + 0.025, 0.5), (hand - 0.025, 0.5)], coat * 0.85)
        fill(circle((hand, 0.48), 0.026, 6), skin)
    fill([(-0.1, hem), (0.1, hem), (0.12, 0.81), (0.05, 0.84), (-0.05, 0.84), (-0.12, 0.81)], coat)
    fill([(dark * 0.02, hem), (dark * 0.1, hem), (dark * 0.115, 0.8), (dark * 0.04, 0.82)], coat * 0.75)


# --- signs -----------------------------------------------------------------------------------------------------------

POLES = [(0.55, 0.55, 0.56), (0.3, 0.3, 0.32), (0.35, 0.27, 0.2), (0.25, 0.35, 0.28)]
RED, BLUE, YELLOW, WHITE = (0.75, 0.08, 0.1), (0.08, 0.25, 0.65), (0.9, 0.75, 0.1), (0.9, 0.9, 0.88)
BLACK, GREEN, GREY, BROWN = (0.06, 0.06, 0.07), (0.1, 0.4, 0.2), (0.5, 0.5, 0.5), (0.4, 0.25, 0.15)
# corners (0: a board), rim, face, mark
PLATES = [
    (16, RED, WHITE, BLACK), (16, BLUE, BLUE, WHITE), (16, RED, BLUE, RED), (16, GREY, GREY, GREY),
    (3, RED, WHITE, BLACK), (3, RED, YELLOW, BLACK), (3, GREY, GREY, GREY), (4, WHITE, YELLOW, YELLOW),
    (8, WHITE, RED, WHITE), (0, WHITE, BLUE, WHITE), (0, BLACK, YELLOW, BLACK), (0, WHITE, GREEN, WHITE),
    (0, BROWN, WHITE, BLACK), (0, GREY, WHITE, RED), (0, GREY, GREEN, GREEN),
]  # fmt: skip


def draw_sign(stage: Stage, x: float, z: float) -> None:
    """A traffic sign or a board on a pole at (x, z), at times with a second plate below; the pole belongs to it."""
    rng, lit = stage.rng, stage.shade((0, 0, -1))
    height, half = rng.uniform(2.2, 3.4), rng.uniform(0.36, 0.55)
    plane, foot = stage.camera.facing(x, z)
    plane = np.array([(1, 0), (rng.normal(0, 0.03), 1)]) @ plane  # a leaning pole

    def fill(points, colour):  # points (right, up) in metres
        stage.canvas.fill(np.asarray(points) @ plane + foot, np.asarray(colour) * lit, SIGN, z)

    fill([(-0.05, 0), (0.05, 0), (0.05, height), (-0.05, height)], pick(rng, POLES, 0.02))
    _fill_plate(fill, height, half, rng)
    if rng.random() < 0.35:
        _fill_plate(fill, height - 2.0 * half, 0.7 * half, rng)


def _fill_plate(fill, up, half, rng):
    corners, *colours = PLATES[rng.integers(len(PLATES))]
    rim, face, mark = np.array(colours) * rng.uniform(0.7, 1.1)  # new or faded
    if corners:
        size = np.array((half, half * one_of(rng, (-1, 1))))  # a triangle stands on its base or its tip
        fill(circle((0, up), size, corners), rim)
        fill(circle((0, up), 0.74 * size, corners), face)
        fill(_rectangle(up, rng.uniform(0.1, 0.35) * half, rng.uniform(0.1, 0.4) * half), mark)
        return
    wide = half * rng.uniform(1, 1.9)
    fill(_rectangle(up, wide, half), rim)
    fill(_rectangle(up, 0.86 * wide, 0.86 * half), face)
    for line in np.linspace(-0.5, 0.5, rng.integers(1, 4)):
        fill(_rectangle(up + line * half, 0.65 * wide, 0.09 * half), mark)


def _rectangle(up, half_width, half_height):
    w, low, high = half_width, up - half_height, up + half_height
    return [(-w, low), (w, low), (w, high), (-w, high)]
