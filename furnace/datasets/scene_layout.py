"""Where things stand in a drawn street scene (see :mod:`furnace.datasets.scenes`)."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from furnace.datasets.scene_actors import draw_car, draw_person, draw_sign
from furnace.datasets.scene_canvas import Stage, one_of, pick
from furnace.datasets.scene_parts import LEAVES, Street, draw_building, draw_tree, draw_wall, wall_style

Thing = tuple[float, Callable[[], None]]  # depth in metres, and what draws it


def plan_street(rng: np.random.Generator) -> Street:
    """A random plan."""
    near = rng.uniform(9, 35)
    return Street(
        left=-rng.uniform(2.2, 8), right=rng.uniform(2.2, 6.5), pavements=(rng.uniform(2, 6), rng.uniform(2, 6)),
        crossing=(near, near + rng.uniform(6, 12)) if rng.random() < 0.4 else None,
    )  # fmt: skip


def draw_skyline(stage: Stage) -> None:
    """Far houses and trees that close the street."""
    rng = stage.rng
    x = -120.0
    while x < 120:
        wide, z = rng.uniform(12, 36), rng.uniform(95, 130)
        if rng.random() < 0.45:
            draw_wall(stage, ((x, z), (x + wide, z)), rng.uniform(4, 28), wall_style(stage), (0, 0, -1))
        elif rng.random() < 0.7:
            draw_tree(stage, x, z, rng.uniform(5, 13), pick(rng, LEAVES), 'bush')
        x += wide


def furnish(stage: Stage, street: Street) -> list[Thing]:
    """All that stands on the ground, from far to near: in this order things cover one another rightly."""
    places = (_houses, _trees, _cars, _people, _signs)
    things = [thing for place in places for thing in place(stage, street)]
    return sorted(things, key=lambda thing: -thing[0])


def _houses(stage, street):
    rng, things = stage.rng, []
    gaps, floors = one_of(rng, (0.05, 0.25, 0.6)), one_of(rng, (4.0, 9.0, 16.0))
    for side in (-1, 1):
        z = rng.uniform(1, 6)
        while z < 85:
            far, x = z + rng.uniform(6, 22) * (1 + z / 60), street.front(side) + side * one_of(rng, (0, 0, 1.5, 4))
            if not (street.open_at(z) or street.open_at(far) or rng.random() < gaps):
                height = floors * rng.uniform(0.7, 1.6)
                things.append((far, partial(draw_building, stage, side, x, z, far, height)))
            elif not street.open_at(z) and rng.random() < 0.5:  # a garden wall
                wall = ((x, z), (x, far))
                style = wall_style(stage)
                things.append((far, partial(draw_wall, stage, wall, rng.uniform(0.8, 1.8), style, (-side, 0, 0))))
            z = far
    return things


def _trees(stage, street):
    rng, things = stage.rng, []
    leaves, kind = pick(rng, LEAVES), one_of(rng, ('round', 'round', 'cone'))
    for side in (-1, 1):
        spacing, offset = one_of(rng, (6.0, 11.0, 25.0, 60.0)), one_of(rng, (0.7, 1.2, 6.0))
        z = rng.uniform(5, 8 + spacing)
        while z < 70:
            if rng.random() < 0.25:
                leaves = pick(rng, LEAVES)
            bush = rng.random() < 0.2
            x, height = street.kerb(side) + side * offset, rng.uniform(0.8, 1.8) if bush else rng.uniform(3.5, 11)
            if not street.open_at(z):
                things.append((z, partial(draw_tree, stage, x, z, height, leaves, 'bush' if bush else kind)))
            z += spacing * rng.uniform(0.6, 1.4)
    return things


def _cars(stage, street):
    rng, cars = stage.rng, []
    for side in (-1, 1):  # parked along the kerb
        if rng.random() < 0.55:
            for z in np.arange(_first_depth(stage, street.kerb(side), 5), 45, rng.uniform(6.5, 9)):
                if rng.random() < 0.65 and not street.open_at(z):
                    cars.append((street.kerb(side) - side * rng.uniform(0.9, 1.2), z, one_of(rng, (0, np.pi))))
    leftmost = street.left + 2.5
    rightmost = max(leftmost, street.right - 2.0)  # the narrowest street has one place
    for _ in range(rng.integers(1, 4)):  # driving: on the right away from the camera, on the left towards it
        x, z = rng.uniform(leftmost, rightmost), rng.uniform(8, 45)
        yaw = 0 if x > (street.left + street.right) / 2 else np.pi
        cars.append((x, z, yaw + rng.normal(0, 0.06)))
    if rng.random() < 0.35:  # crossing or turning
        z = sum(street.crossing) / 2 if street.crossing else rng.uniform(9, 22)
        cars.append((rng.uniform(street.left, street.right), z, one_of(rng, (-1, 1)) * rng.uniform(0.6, 2.5)))
    return [(z, partial(draw_car, stage, x, z, yaw)) for x, z, yaw in _apart(cars)]


def _apart(cars):
    """Drop the cars that would stand inside another one."""
    kept = []
    for x, z, yaw in cars:
        if all(abs(x - x2) > 2.3 or abs(z - z2) > 6 for x2, z2, _ in kept):
            kept.append((x, z, yaw))
    return kept


def _people(stage, street):
    rng, things = stage.rng, []
    for _ in range(rng.integers(3, 9)):
        side = one_of(rng, (-1, 1))
        x = street.kerb(side) + side * rng.uniform(0.2, abs(street.front(side) - street.kerb(side)) - 0.3)
        if rng.random() < 0.2:
            x = rng.uniform(street.left, street.right)
        z = _first_depth(stage, x, 4.5) * math.exp(rng.uniform(0, 1.1))
        for _ in range(1 + (rng.random() < 0.3)):  # alone or as a pair
            things.append((z, partial(draw_person, stage, x, z)))
            x, z = x + rng.uniform(0.45, 0.7), z + rng.uniform(-0.3, 0.3)
    return things


def _signs(stage, street):
    rng, things = stage.rng, []
    for _ in range(rng.integers(2, 6)):
        side = one_of(rng, (-1, 1))
        x = street.kerb(side) + side * rng.uniform(0.3, 1.2)
        z = _first_depth(stage, x, 4.5) * math.exp(rng.uniform(0, 1.0))
        things.append((z, partial(draw_sign, stage, x, z)))
    return things


def _first_depth(stage, x, nearest):
    """The smallest depth, from ``nearest`` on, at which the place x metres to the side is inside the picture."""
    camera, width = stage.camera, stage.canvas.label.shape[1]
    room = width - camera.centre_x if x > 0 else camera.centre_x
    return max(nearest, 1.1 * abs(x) * camera.focal / room)
