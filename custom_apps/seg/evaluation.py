"""Scoring a folder of predicted label maps against a folder of references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from custom_apps.common.errors import DataError
from custom_apps.seg.protocol import SegmentationProtocol
from custom_apps.seg.score_tables import Row, ScoreTables
from custom_apps.seg.volume_io import IMAGE_ENDINGS, geometry_problem, read_segmentation


def evaluate_folder(
    prediction_dir: str | Path,
    reference_dir: str | Path,
    protocol: SegmentationProtocol,
    output_dir: str | Path | None = None,
    cases: Sequence[str] | None = None,
    num_processes: int = 1,
) -> ScoreTables:
    """Scores every predicted label map against the reference of the same name.

    Args:
        prediction_dir: folder of ``{case}{ending}``.
        reference_dir: the same of the references.
        protocol: measures and conventions.
        output_dir: where :meth:`ScoreTables.write` puts its files; nothing is written without it.
        cases: names to score; by default every reference, and a prediction without reference is an error.
        num_processes: cases scored at a time.

    Raises:
        DataError: naming the file, for a prediction that is missing or too many, and for a pair that differs in shape
            or spacing.
    """
    predictions, references = _label_maps(Path(prediction_dir)), _label_maps(Path(reference_dir))
    wanted = sorted(references) if cases is None else list(cases)
    if not wanted:
        raise DataError(reference_dir, "no label maps", f"files ending in {', '.join(IMAGE_ENDINGS)}")
    for name in wanted:
        for found, folder, kind in (
            (references, reference_dir, "reference"),
            (predictions, prediction_dir, "prediction"),
        ):
            if name not in found:
                raise DataError(Path(folder) / name, f"{kind} is missing", f"one for each of {len(wanted)} cases")
    if cases is None and (extra := sorted(set(predictions) - set(references))):
        raise DataError(predictions[extra[0]], "prediction has no reference", f"a file of that name in {reference_dir}")
    pairs = [(name, predictions[name], references[name]) for name in wanted]
    rows = [row for case_rows in _mapped(partial(_score_files, protocol), pairs, num_processes) for row in case_rows]
    tables = ScoreTables(rows, protocol)
    if output_dir is not None:
        tables.write(output_dir, {name: (str(prediction), str(reference)) for name, prediction, reference in pairs})
    return tables


def _score_files(protocol: SegmentationProtocol, pair: tuple[str, Path, Path]) -> list[Row]:
    case, prediction_path, reference_path = pair
    prediction, properties = read_segmentation(prediction_path)
    reference, reference_properties = read_segmentation(reference_path)
    if problem := geometry_problem(prediction.shape[1:], properties, reference.shape[1:], reference_properties):
        raise DataError(prediction_path, problem[0], f"{problem[1]} as in {reference_path}")
    return protocol.score(prediction[0], reference[0], reference_properties["spacing"], case)


def _mapped(function: Callable, items: Sequence, num_processes: int) -> list:
    """``function`` of each item, in order, in several processes when asked for."""
    if num_processes <= 1 or len(items) < 2:
        return [function(item) for item in items]
    with ProcessPoolExecutor(min(num_processes, len(items)), mp_context=get_context("spawn")) as pool:
        return list(pool.map(function, items))


def _label_maps(folder: Path) -> dict[str, Path]:
    """Case name to label map of a folder.

    Raises:
        DataError: if the folder is missing, or holds one case in two formats.
    """
    if not folder.is_dir():
        raise DataError(folder, "no such folder", "a folder of label maps")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((ending for ending in IMAGE_ENDINGS if path.name.lower().endswith(ending)), None)
        if ending is None or path.name.startswith(".") or not path.is_file():
            continue
        name = path.name[: -len(ending)]
        if name in found:
            raise DataError(path, f"second label map of case '{name}'", f"only {found[name].name}")
        found[name] = path
    return found
