"""A prepared data set in memory: blobs of two classes in noise, with what the patch sampler asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from custom_apps.seg.labels import LabelManager
from custom_apps.seg.locations import regions_to_locate, sample_locations


@dataclass
class MemoryPrepared:
    patch_size: tuple[int, ...] = (8, 10, 6)
    batch_size: int = 2
    size: tuple[int, int, int] = (19, 23, 17)
    channels: int = 1
    labels_json: dict = field(default_factory=lambda: {"labels": {"background": 0, "ball": 1, "cube": 2}})
    number: int = 4
    batch_dice: bool = True
    use_mask_for_norm: tuple[bool, ...] = (False,)

    def __post_init__(self):
        self.configuration = SimpleNamespace(
            patch_size=list(self.patch_size),
            batch_size=self.batch_size,
            batch_dice=self.batch_dice,
            use_mask_for_norm=list(self.use_mask_for_norm),
        )
        self.labels = LabelManager.from_dataset_json(self.labels_json)
        self.cases = [f"case_{i}" for i in range(self.number)]
        self._arrays = {name: self._make(i) for i, name in enumerate(self.cases)}

    def _make(self, seed: int):
        random = np.random.RandomState(seed)
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in self.size), indexing="ij"))
        ball_centre = [random.randint(4, n - 4) for n in self.size]
        label = np.zeros(self.size, dtype=np.int16)
        label[((grid - np.reshape(ball_centre, (3, 1, 1, 1))) ** 2).sum(0) <= 9] = 1
        corner = [random.randint(0, n - 3) for n in self.size]
        label[tuple(slice(c, c + 3) for c in corner)] = 2
        image = random.normal(size=(self.channels, *self.size)).astype(np.float32) * 0.3 + 2 * label
        label[0] = -1
        return image.astype(np.float32), label[None]

    def load(self, case: str):
        image, seg = self._arrays[case]
        locations = sample_locations(seg, regions_to_locate(self.labels))
        return SimpleNamespace(identifier=case, image=image, seg=seg, locations=locations, properties={})
