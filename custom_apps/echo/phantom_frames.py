"""Ultrasound frames of the phantom heart: echo strength of each tissue, speckle that moves with it, sector and gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from custom_apps.echo.phantom_ventricle import Ventricle, bullet

# Echo strength in decibels below the strongest.
BLOOD_DB, MUSCLE_DB, SURROUNDINGS_DB, PERICARDIUM_DB, VALVE_DB = -52.0, -19.0, -29.0, -5.0, -9.0
# Depth by angle; fine enough to look up the nearest value.
TEXTURE = (512, 384)


@dataclass(frozen=True)
class View:
    """How the scanner shows the heart.

    Attributes:
        apex: x, y of the sector's tip in pixels.
        half_angle: of the sector, radians.
        radius: depth of the sector in pixels.
        gain_db: added to all echoes.
        range_db: from black to white.
        noise_db: level of the noise at full depth.
        shadow: angle of a rib's shadow in radians, and its strength in decibels.
        septum_side: −1 with the right ventricle on the left of the image, 1 on the right.
    """

    apex: tuple[float, float]
    half_angle: float
    radius: float
    gain_db: float
    range_db: float
    noise_db: float
    shadow: tuple[float, float]
    septum_side: int

    @classmethod
    def drawn(cls, random: np.random.Generator, size: int) -> View:
        """A view with the spread of a clinic's machines."""
        half_angle = random.uniform(0.62, 0.76)
        return cls(
            apex=(size * random.uniform(0.48, 0.52), size * random.uniform(-0.01, 0.03)),
            half_angle=half_angle,
            radius=size * random.uniform(0.95, 1.0),
            gain_db=random.normal(2, 3),
            range_db=random.uniform(46, 56),
            noise_db=random.uniform(-58, -46),
            shadow=(random.choice([-1, 1]) * half_angle * random.uniform(0.55, 0.95), random.uniform(0, 18)),
            septum_side=-1,
        )


def render(ventricle: Ventricle, view: View, random: np.random.Generator, size: int) -> np.ndarray:
    """Draws all frames.

    Args:
        ventricle: shape in each frame.
        view: scanner settings.
        random: source of speckle and noise.
        size: edge of the frames in pixels.

    Returns:
        uint8 (F, size, size).
    """
    rows, columns = np.mgrid[:size, :size]
    radius, angle = (
        np.hypot(columns - view.apex[0], rows - view.apex[1]),
        np.arctan2(columns - view.apex[0], rows - view.apex[1]),
    )
    inside = (np.abs(angle) < view.half_angle) & (radius < view.radius)
    x, y, radius, angle = (values[inside].astype(np.float32) for values in (columns, rows, radius, angle))
    strength, moved = _anatomy(ventricle, view, x, y)

    tissue = _speckle(random)
    flicker = np.stack([_looked_up(_rolled(tissue, random), radius, angle, view) for _ in range(12)])
    flicker = flicker[random.integers(len(flicker), size=len(strength))]
    # Blood moves fast: its speckle is new in each frame. That of tissue changes slowly as it leaves the plane.
    fresh = np.clip((MUSCLE_DB - 8 - strength) / 20, 0.15, 1)
    echo = np.sqrt(1 - fresh) * _looked_up(tissue, *_polar(moved, view), view) + np.sqrt(fresh) * flicker
    depth = radius / view.radius
    power = np.exp((strength + _gain(view, depth, angle)) * np.float32(np.log(10) / 10))
    power *= echo.real**2 + echo.imag**2
    power += 10 ** (view.noise_db / 10) * depth**2 * random.standard_exponential(echo.shape, np.float32)
    shown = np.zeros((len(strength), size, size), np.float32)
    shown[:, inside] = np.clip(1 + (10 * np.log10(power + 1e-12) + view.gain_db) / view.range_db, 0, 1.05)
    shown = gaussian_filter(shown, (0, 0.6, 0.6), truncate=3)
    return np.where(inside, np.clip(255 * shown, 0, 255), 0).astype(np.uint8)


def _anatomy(ventricle: Ventricle, view: View, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Echo strength in dB (F, P), and where the tissue at each of P pixels was at end-diastole, x and y (F, 2, P)."""
    along, across = (axis.astype(np.float32) for axis in ventricle.axes)
    per_frame = [ventricle.length, ventricle.half_width, ventricle.outer_half_width, ventricle.valve_opening]
    length, inner, outer, opening = (values.astype(np.float32)[:, None] for values in per_frame)
    apex = ventricle.apex.astype(np.float32)[:, :, None]
    u = (x - apex[:, 0]) * along[0] + (y - apex[:, 1]) * along[1]
    v = ((x - apex[:, 0]) * across[0] + (y - apex[:, 1]) * across[1]) * view.septum_side
    side = np.abs(v)
    thickness = outer - inner
    # The wall goes round the apex, where it is thinner, and ends at the mitral plane.
    cavity = inner * bullet(np.clip(u / length, 0, 1))
    cap = 0.75 * thickness
    heart = outer * bullet(np.clip((u + cap) / (length + cap), 0, 1))

    strength = np.full(u.shape, SURROUNDINGS_DB, np.float32)
    strength += 5 * np.sin(0.13 * x + 0.4) * np.cos(0.11 * y)
    # Chambers beside and below; positive v is the side of the septum.
    width, right = inner[0], outer + 0.50 * inner[0]
    for center_u, center_v, radius_u, radius_v in (
        (0.66 * length, right, 0.46 * length, 0.60 * width),
        (length + 0.98 * width, -0.05 * width, 0.95 * width, 0.84 * width),
        (length + 0.90 * width, right + 0.30 * width, 0.80 * width, 0.74 * width),
    ):
        distance = np.sqrt(((u - center_u) / radius_u) ** 2 + ((v - center_v) / radius_v) ** 2)
        pixels = (distance - 1) * np.minimum(radius_u, radius_v)
        strength = np.maximum(strength, MUSCLE_DB - 40 * (1 - _line(pixels - 1.2, 2.2)))
        strength = _blend(strength, BLOOD_DB + 4, _soft(-pixels, 3.0))
    below = _soft(length - u)
    # Walls along the beam echo less than the apex across it, the free wall less than the septum.
    muscle = MUSCLE_DB + 2.5 * np.clip(v / outer, -1, 1) - 3 * np.clip(u / length, 0, 1)
    strength = _blend(strength, muscle, _soft(heart - side) * below)
    line = _line(heart - side + 0.3, 1.8) * np.clip(-3 * v / outer, 0, 1) * below
    strength = np.maximum(strength, PERICARDIUM_DB - 55 * (1 - line))
    # Haze of reverberations hides the apex a little.
    haze = 14 * np.exp(-np.clip(u, 0, None) / (0.22 * length))
    strength = _blend(strength, BLOOD_DB + haze, _soft(cavity - side, 2.2) * below)
    strength = _blend(strength, BLOOD_DB, _soft(0.86 * inner - side) * _line(u - length, 3.0))
    strength = np.maximum(strength, VALVE_DB - 42 * (1 - _leaflets(u, side, length, inner, opening)))
    return strength, _displacement(ventricle, view, u, v, cavity, heart)


def _displacement(
    ventricle: Ventricle, view: View, u: np.ndarray, v: np.ndarray, cavity: np.ndarray, heart: np.ndarray
) -> np.ndarray:
    """Position (F, 2, P) at end-diastole of what is at ``u``, ``v`` now: walls keep their layers."""
    reference = int(np.argmax(ventricle.length))
    length = ventricle.length.astype(np.float32)[:, None]
    full = length[reference]
    share = np.clip(u / length, 0, 1)
    full_cavity = np.float32(ventricle.half_width[reference]) * bullet(share)
    full_heart = np.float32(ventricle.outer_half_width[reference]) * bullet(np.clip(share + 0.1, 0, 1))
    side = np.abs(v)
    layer = np.clip((side - cavity) / np.maximum(heart - cavity, 1), 0, 1)
    outside = np.clip(side - heart, 0, None)
    reach = full_cavity + layer * (full_heart - full_cavity) + outside
    # Far from the heart nothing moves.
    faded = np.exp(-outside / 25)
    u = u + np.where(u > length, full - length, np.where(u > 0, u * (full / length - 1), 0)) * faded
    # Above the apex both sides meet, so that neither may be pushed aside.
    faded *= np.clip(share / 0.2, 0, 1)
    v = np.sign(v) * (side + (reach - side) * faded) * view.septum_side
    along, across = (axis.astype(np.float32) for axis in ventricle.axes)
    apex = ventricle.apex[reference].astype(np.float32)
    return np.stack([apex[axis] + u * along[axis] + v * across[axis] for axis in (0, 1)], axis=1)


def _leaflets(
    u: np.ndarray, side: np.ndarray, length: np.ndarray, inner: np.ndarray, opening: np.ndarray
) -> np.ndarray:
    """1 on the two leaflets of the mitral valve and at their hinges, falling to 0 beside them."""
    hinge_u, hinge_v = length, 0.93 * inner
    tip_u = length + inner * (0.12 - 0.72 * opening)
    tip_v = inner * (0.04 + 0.60 * opening)
    edge_u, edge_v = tip_u - hinge_u, tip_v - hinge_v
    along = np.clip(((u - hinge_u) * edge_u + (side - hinge_v) * edge_v) / (edge_u**2 + edge_v**2), 0, 1)
    squared = (u - hinge_u - along * edge_u) ** 2 + (side - hinge_v - along * edge_v) ** 2
    return np.exp(-squared / (2 * (1.15 - 0.35 * along) ** 2))


def _gain(view: View, depth: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Decibels by place: edges of the sector and a rib's shadow are darker, the near field is brighter."""
    edge = -9 * np.abs(angle / view.half_angle) ** 4
    where, shadow_db = view.shadow
    shadow = -shadow_db * np.exp(-(((angle - where) / 0.12) ** 2)) * np.clip(2 * depth, 0, 1)
    return (edge + shadow + 12 * np.exp(-depth / 0.05) - 5 * np.clip(depth - 0.65, 0, None) / 0.35).astype(np.float32)


def _speckle(random: np.random.Generator) -> np.ndarray:
    """Echoes of countless scatterers on a polar grid: complex, mean power 1, short in depth and wide across beams."""
    parts = gaussian_filter(random.normal(size=(2, *TEXTURE)), (0, 3.0, 4.2), mode="wrap")
    return ((parts[0] + 1j * parts[1]) / np.sqrt((parts**2).sum(0).mean())).astype(np.complex64)


def _rolled(texture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.roll(texture, (random.integers(TEXTURE[0]), random.integers(TEXTURE[1])), (0, 1))


def _polar(positions: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    dx, dy = positions[:, 0] - view.apex[0], positions[:, 1] - view.apex[1]
    return np.hypot(dx, dy), np.arctan2(dx, dy)


def _looked_up(texture: np.ndarray, radius: np.ndarray, angle: np.ndarray, view: View) -> np.ndarray:
    """Texture at polar positions; its columns span more than the sector, so that none comes up twice."""
    rows = np.clip(radius / view.radius, 0, 1) * (TEXTURE[0] - 1)
    columns = np.clip(angle / (2.8 * view.half_angle) + 0.5, 0, 1) * (TEXTURE[1] - 1)
    return texture[(rows + 0.5).astype(np.int32), (columns + 0.5).astype(np.int32)]


def _soft(pixels: np.ndarray, width: float = 1.6) -> np.ndarray:
    """0 outside, 1 inside, from a signed distance in pixels to a border that is ``width`` wide."""
    return np.clip(pixels / width + 0.5, 0, 1)


def _line(pixels: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((pixels / width) ** 2))


def _blend(base: np.ndarray, value: np.ndarray | float, share: np.ndarray) -> np.ndarray:
    return base + (value - base) * share
