"""Labels of the ToothFairy3 data set: source ids with gaps, the challenge's ids, and published component volumes."""

from __future__ import annotations

SPACING_MM = (0.3, 0.3, 0.3)

TEETH = (
    "Central Incisor",
    "Lateral Incisor",
    "Canine",
    "First Premolar",
    "Second Premolar",
    "First Molar",
    "Second Molar",
    "Third Molar (Wisdom Tooth)",
)
QUADRANTS = {1: "Upper Right", 2: "Upper Left", 3: "Lower Left", 4: "Lower Right"}
PULP_OFFSET = 100

OTHERS = {
    1: "Lower Jawbone",
    2: "Upper Jawbone",
    3: "Left Inferior Alveolar Canal",
    4: "Right Inferior Alveolar Canal",
    5: "Left Maxillary Sinus",
    6: "Right Maxillary Sinus",
    7: "Pharynx",
    8: "Bridge",
    9: "Crown",
    10: "Implant",
}
SMALL_CANALS = {103: "Left Mandibular Incisive Canal", 104: "Right Mandibular Incisive Canal", 105: "Lingual Canal"}

TOOTH_NAMES = {
    10 * quadrant + place: f"{side} {tooth}"
    for quadrant, side in QUADRANTS.items()
    for place, tooth in enumerate(TEETH, start=1)
}
"""Teeth by FDI number."""

PULP_NAMES = {tooth + PULP_OFFSET: f"{name} Pulp" for tooth, name in TOOTH_NAMES.items()}

NAMES = OTHERS | TOOTH_NAMES | SMALL_CANALS | PULP_NAMES
"""Name of each of the 77 source ids."""

CORRECTIONS = {"ToothFairy3S_0048": {60: 38, 160: 138}}
"""Ids that a published label map carries by mistake, and what they mean."""

CHALLENGE_IDS = {id_: id_ for id_ in OTHERS | TOOTH_NAMES} | {103: 51, 104: 52, 105: 53} | dict.fromkeys(PULP_NAMES, 50)
"""Id in a submission to the challenge (Task 1), where all pulps are one label, for each source id."""

COMPONENT_VOXELS = {
    2: 448.88,
    3: 2198,
    4: 1754,
    5: 814.48,
    6: 1869,
    7: 71533,
    8: 7211,
    9: 5694,
    11: 1473.895,
    12: 888.1,
    13: 1200,
    14: 871.4,
    15: 1970.9,
    16: 1851,
    17: 2146.2,
    18: 1552,
    21: 1520,
    22: 728.52,
    23: 1196.26,
    24: 1357.385,
    25: 1964.44,
    26: 1064.55,
    27: 1930.25,
    28: 1684,
    31: 2177,
    32: 1092,
    33: 2844.9,
    34: 1590.155,
    35: 1833,
    36: 1057.15,
    37: 2160,
    38: 1179.185,
    41: 1070,
    42: 3597.525,
    43: 1195,
    44: 1947,
    45: 2075,
    46: 2051.65,
    47: 1057.345,
    48: 3724,
    51: 75,
    52: 33,
}
"""Smallest component in voxels of 0.3 mm that U-Mamba2 (arXiv 2509.12069) keeps, by challenge id.

The 0.5th percentile of the component volumes in the training labels.
"""
