"""The blur that a model was trained with, kept beside its weights and compared before these are used.

A network that was taught on blurred images does worse on sharp ones, and the other way round, without any sign of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from custom_apps.common.distributed import is_main_process
from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import write_json

FILE = "blur.json"
NONE = "none"
logger = logging.getLogger(__name__)


def blur_setting(
    records: Iterable[Mapping[str, Any]], method: str | None, sigma: float | Sequence[float] | None = None
) -> str:
    """Blur of images in words, such as ``gaussian 1.1``, ``gaussian 0.5 to 2``, ``median`` or ``none``.

    Args:
        records: of images; those of a blurred copy say so in ``blur``.
        method: blur that is applied on the fly; None or ``none`` for none.
        sigma: of ``gaussian``, one number or a range.

    Raises:
        DataError: images of different blur, or blurred images that are to be blurred once more.
    """
    found = {record.get("blur") for record in records}
    if len(found) > 1:
        raise DataError("images", f"of different blur ({', '.join(sorted(map(str, found)))})", "one setting for all")
    copied = found.pop() if found else None
    applied = None
    if method not in (None, NONE):
        values = [sigma] if isinstance(sigma, (int, float)) else list(sigma or [])
        numbers = [f"{value:g}" for value in dict.fromkeys(values)] if method == "gaussian" else []
        applied = " ".join([method, " to ".join(numbers)]).strip()
    if copied and applied:
        raise DataError("images", f"blurred already ({copied})", "original images, or --blur none")
    return copied or applied or NONE


def read_blur(checkpoint: str | Path) -> str | None:
    """Blur setting that is kept beside a checkpoint; None where there is none.

    Raises:
        DataError: a damaged file.
    """
    path = Path(checkpoint).parent / FILE
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["blur"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"unreadable ({type(error).__name__})", "the blur setting of a model") from error


def check_blur(checkpoint: str | Path, setting: str, allow_other: bool = False) -> None:
    """Compares a setting with that of a checkpoint; one without is only warned of.

    Args:
        checkpoint: file of weights.
        setting: of the images that it is to be used with.
        allow_other: warn of a difference instead of refusing it.

    Raises:
        DataError: the settings differ.
    """
    trained = read_blur(checkpoint)
    if trained is None:
        logger.warning("%s has no %s beside it: make sure that its images had the blur '%s'", checkpoint, FILE, setting)
    elif trained != setting:
        problem = f"trained on images of blur '{trained}', now used with '{setting}'"
        if not allow_other:
            raise DataError(checkpoint, problem, "the same --blur and --sigma, or --allow_other_blur True")
        logger.warning("%s: %s", checkpoint, problem)


class BlurRecord:
    """Handler of a trainer that keeps the blur setting beside the weights that it makes.

    Attach it after :class:`~custom_apps.common.checkpoints.TrainingState`.

    Args:
        folder: where the weights go.
        setting: see :func:`blur_setting`.

    Raises (when the training starts):
        DataError: a training that goes on had another setting.
    """

    def __init__(self, folder: str | Path, setting: str):
        self.folder, self.setting = Path(folder), setting

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Compares, if the training goes on, or writes."""
        if engine.state.epoch > 0:
            check_blur(self.folder / FILE, self.setting)
        elif is_main_process():
            write_json({"blur": self.setting}, self.folder / FILE)


class BlurCheck:
    """Handler that compares the images with what a checkpoint was trained on, before anything else happens.

    Args:
        checkpoint: file of weights; None for none.
        setting: see :func:`blur_setting`.
        allow_other: see :func:`check_blur`.
        only_new: leave alone a training that goes on and has its own weights.
    """

    def __init__(self, checkpoint: str | Path | None, setting: str, allow_other: bool = False, only_new: bool = False):
        self.checkpoint, self.setting, self.allow_other, self.only_new = checkpoint, setting, allow_other, only_new

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Compares."""
        if self.checkpoint is not None and not (self.only_new and engine.state.epoch > 0):
            check_blur(self.checkpoint, self.setting, self.allow_other)
