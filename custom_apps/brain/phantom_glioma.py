"""Synthetic gliomas whose looks depend on IDH and 1p/19q status as those of real ones tend to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from custom_apps.brain.contrasts import CONTRASTS
from custom_apps.brain.phantom_head import BACKGROUND, CSF, Head, smooth_noise

NECROSIS, EDEMA, ENHANCING = 1, 2, 4
"""Labels of the mask, as in BraTS; tumor that neither enhances nor is dead counts as NECROSIS there too."""

# Where tumors are more often seen, in mm to one side, to the front and upwards.
_PLACES = {
    "frontal": (28.0, 42.0, 16.0),
    "temporal": (42.0, -2.0, -14.0),
    "parietal": (30.0, -34.0, 28.0),
    "insular": (36.0, 12.0, 2.0),
    "occipital": (24.0, -58.0, 6.0),
}
_CHANCES = {
    "wild": {"frontal": 0.25, "temporal": 0.32, "parietal": 0.25, "insular": 0.06, "occipital": 0.12},
    "mutant": {"frontal": 0.52, "temporal": 0.18, "parietal": 0.12, "insular": 0.16, "occipital": 0.02},
    "codeleted": {"frontal": 0.64, "temporal": 0.10, "parietal": 0.16, "insular": 0.06, "occipital": 0.04},
}


@dataclass(frozen=True)
class Glioma:
    """How one tumor looks; drawn by :meth:`drawn`, so that kinds overlap.

    Attributes:
        idh: 1 mutated, 0 wild type.
        codeletion: 1 when 1p/19q is co-deleted.
        center_mm: to the right, to the front, upwards of the middle of the brain.
        radius_mm: of the solid part, on average.
        roughness: how far the margin departs from a ball.
        blur_mm: softness of the margin.
        enhancement: uptake of contrast agent, 0 to 1.
        necrosis: radius of the dead core over that of the tumor; 0 for none.
        edema: radius of the edema over that of the tumor.
        mismatch: how much FLAIR is darker inside than T2 suggests, 0 to 1.
        calcification: part of the tumor that is calcified.
    """

    idh: int
    codeletion: int
    center_mm: tuple[float, float, float]
    radius_mm: float
    roughness: float
    blur_mm: float
    enhancement: float
    necrosis: float
    edema: float
    mismatch: float
    calcification: float

    @classmethod
    def drawn(cls, random: np.random.Generator, idh: int, codeletion: int) -> Glioma:
        """A tumor of this kind.

        Wild types mostly enhance in a ring about a dead core within much edema; mutants mostly do neither and lie in
        front; without co-deletion they tend to the T2-FLAIR mismatch, with it to calcifications, unclear margins and
        the cortex. One tumor in ten looks like the other IDH status in its enhancement.
        """
        kind = "codeleted" if codeletion else "mutant" if idh else "wild"
        chances = _CHANCES[kind]
        place = random.choice(list(chances), p=list(chances.values()))
        side = random.choice([-1.0, 1.0])
        center = np.array(_PLACES[place]) * (side, 1, 1) + random.normal(0, 6, 3)
        misleading = random.uniform() < 1 / 10
        enhances = misleading if idh else not misleading
        dies = enhances and random.uniform() < (0.3 if idh else 0.9)
        return cls(
            idh=idh,
            codeletion=codeletion,
            center_mm=tuple(center.tolist()),
            radius_mm=float(random.uniform(15, 27)),
            roughness=float(random.uniform(0.18, 0.30) if codeletion else random.uniform(0.10, 0.22)),
            blur_mm=float(random.uniform(3.0, 5.5) if codeletion else random.uniform(0.8, 2.5)),
            enhancement=float(random.uniform(0.55, 1.0) if enhances else random.uniform(0.0, 0.15)),
            necrosis=float(random.uniform(0.45, 0.72) if dies else 0.0),
            edema=float(random.uniform(1.0, 1.25) if idh else random.uniform(1.4, 1.9)),
            mismatch=float(random.uniform(0.5, 1.0) if idh and not codeletion and random.uniform() < 0.6 else 0.0),
            calcification=float(random.uniform(0.06, 0.16) if codeletion and random.uniform() < 0.8 else 0.0),
        )


def add_glioma(
    random: np.random.Generator, images: dict[str, np.ndarray], brain: Head, glioma: Glioma, spacing_mm: float
) -> np.ndarray:
    """Draws a tumor into the sharp images of a brain, in place.

    Args:
        random: source of texture and margin.
        images: contrast to brightness, as from :func:`custom_apps.brain.phantom_head.tissue_images`.
        brain: the tissues.
        glioma: its looks.
        spacing_mm: edge of a voxel.

    Returns:
        Mask with the labels of BraTS, uint8.
    """
    shape, inside = brain.tissue.shape, brain.tissue != BACKGROUND
    center = np.array(glioma.center_mm, np.float32).reshape(3, 1, 1, 1)
    stretch = random.uniform(0.8, 1.25, 3).astype(np.float32)
    stretch = (stretch / np.prod(stretch) ** (1 / 3)).reshape(3, 1, 1, 1)
    radius = np.linalg.norm((brain.position_mm - center) / stretch, axis=0) / glioma.radius_mm
    radius = radius + glioma.roughness * smooth_noise(random, shape, max(6 / spacing_mm, 0.8))
    # Edema keeps to the white matter, in fingers, and stops at the cortex.
    fingers = 0.28 * smooth_noise(random, shape, max(5 / spacing_mm, 0.7))
    reach = glioma.edema + fingers
    edema = inside & (radius < reach) & (brain.depth_mm > 4) & (brain.tissue != CSF)
    tumor = inside & (radius < 1)
    core = tumor & (radius < glioma.necrosis)
    texture = smooth_noise(random, shape, max(3 / spacing_mm, 0.6))
    ring = tumor & ~core & (glioma.enhancement > 0.2) & (texture > (-1.6 if glioma.necrosis else 0.1))

    values = {
        # Solid tumor, dead core, edema.
        "t1": (0.50, 0.34, 0.60),
        "t2": (0.84, 0.97, 0.80),
        "t1ce": (0.52, 0.34, 0.61),
        "flair": (0.88, 0.52, 0.84),
    }
    weight = {
        "tumor": gaussian_filter(tumor.astype(np.float32), glioma.blur_mm / spacing_mm) * inside,
        "core": gaussian_filter(core.astype(np.float32), 0.8 / spacing_mm) * inside,
        "edema": gaussian_filter(edema.astype(np.float32), 2.0 / spacing_mm) * inside,
    }
    for name in CONTRASTS:
        solid, dead, wet = values[name]
        image = images[name]
        image += 0.9 * weight["edema"] * (wet - image)
        inner = solid + 0.04 * texture
        if name == "flair":
            # What is left of the mismatch is a bright rim.
            inner = inner - 0.50 * glioma.mismatch * np.clip((0.95 - radius) / 0.18, 0, 1)
        image += weight["tumor"] * (inner - image)
        image += weight["core"] * (dead - image)
        if name == "t1ce":
            image += glioma.enhancement * ring * (1.45 + 0.08 * texture - image)
    if glioma.calcification:
        grains = smooth_noise(random, shape, max(1.6 / spacing_mm, 0.5))
        limit = np.quantile(grains[tumor], 1 - glioma.calcification) if tumor.any() else np.inf
        calcified = tumor & (grains > limit)
        for name, value in {"t1": 0.66, "t2": 0.22, "t1ce": 0.68, "flair": 0.25}.items():
            images[name][calcified] = value

    mask = np.zeros(shape, np.uint8)
    mask[edema] = EDEMA
    mask[tumor] = NECROSIS
    mask[ring] = ENHANCING
    return mask
