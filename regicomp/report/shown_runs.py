"""The runs and images whose reconstructions the report's page shows."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regicomp.data.testsets import TestSet
    from regicomp.report.curves import Curve
    from regicomp.report.page import Pictures
    from regicomp.report.records import Measurement, Skipped


def find_images(name: str, curves: list[Curve], root: str, folders: list[str]) -> tuple[TestSet | None, str | None]:
    """The images that a test set was measured on, or None and the reason."""
    from regicomp.data import testsets

    own = [folder for folder in folders if Path(folder).resolve().name == name]
    try:
        found = testsets.find([] if own else [name], root, own)[0]
    except ValueError as error:
        # The page may be published: it names no folder of this machine.
        nameless = re.sub(rf"(?<![\w./-]){re.escape(root)}(?=[/\s)`]|$)", "DIR", str(error))
        return None, f"its images were not found in --data-root DIR ({nameless})"
    wanted = [image.rsplit(" ", 1)[0] for image in max((c.images for c in curves), key=len)]
    there = {image.name: image for image in found.images}
    missing = [image for image in wanted if image not in there]
    if missing:
        return None, f"{len(missing)} of its {len(wanted)} images were not found, such as {missing[0]}"
    return found._replace(images=[there[image] for image in wanted]), None


def shown_runs(curves: list[Curve], measurements: list[Measurement]) -> list[Measurement]:
    """The runs that pictures are made of: of each curve, the one in the middle of its λ and of its first seed."""
    chosen: list[Measurement] = []
    for curve in curves:
        lmbda = curve.lmbdas[len(curve.lmbdas) // 2]
        chosen += [
            m
            for m in measurements
            if (m.family, m.testset, m.seed, m.lmbda) == (curve.family, curve.testset, curve.seeds[0], lmbda)
        ]
    return chosen


def make_pictures(testset: TestSet, chosen: list[Measurement], most: int) -> tuple[list[Pictures], list[Skipped]]:
    """Originals, reconstructions, error and bit maps of a test set's first images."""
    from regicomp.evaluation import round_trip
    from regicomp.image_codec import model_file
    from regicomp.report import page, pictures
    from regicomp.report.records import Skipped

    coded: dict[str, dict[str, pictures.CodedImage]] = {}
    skipped: list[Skipped] = []
    images = testset.images[:most]
    for m in chosen if images else []:
        path = m.folder / "codec.safetensors"
        if not path.is_file():
            continue
        try:
            codec = round_trip.Codec(model_file.load_codec(path))
            for image in images:
                coded.setdefault(image.name, {})[m.point] = pictures.code(codec, image.load(), m.level)
        except (ValueError, KeyError, RuntimeError) as error:
            skipped.append(Skipped(f"{m.point}, {testset.name}", f"no pictures: {_first_line(error, m.folder)}"))
    result: list[page.Pictures] = []
    for image in images:
        of_runs = coded.get(image.name)
        if of_runs:
            result.append(page.pictures_of(testset.name, image.name, image.load(), of_runs))
    return result, skipped


def _first_line(error: Exception, folder: Path) -> str:
    """An error's first line without the folder, which the caller names."""
    return (str(error).splitlines() or [type(error).__name__])[0].replace(f"{folder}{os.sep}", "")
