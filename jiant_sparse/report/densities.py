"""The rows of a benchmark that differ in nothing but their density: what Fig. 5 is drawn from."""

import json
from collections.abc import Iterable, Mapping

from jiant_sparse.report.frame import Frame
from jiant_sparse.schema.record import Record

# A curve needs at least two points.
MINIMUM_DENSITIES = 2
# What a sweep or a foreign record can change beside the method.
SHARED = ("model", "pooling", "split", "drop_train", "train")


def curves(frame: Frame) -> dict[str, dict[float, str]]:
    """For each method with rows of two densities or more: key -> density in (0, 1] -> label.

    A row counts if its records name one density and, on each task, agree in all other settings.
    Where a method's rows differ in other settings too, its largest set of rows that agree is
    taken, the first of several. Densities ascend.
    """
    families: dict[str, list[tuple[dict[str, str], dict[float, str]]]] = {}
    for label, key in zip(frame.methods["method"], frame.methods["key"], strict=True):
        found = _of(record for its in frame.of(label)["records"] for record in its)
        if key is None or found is None:
            continue
        density, fields = found
        its = families.setdefault(key, [])
        for known, points in its:
            same = all(known.get(task, text) == text for task, text in fields.items())
            if same and density not in points:
                break
        else:
            known, points = {}, {}
            its.append((known, points))
        known |= fields
        points[density] = label
    curves = {key: max((p for _, p in its), key=len) for key, its in families.items()}
    return {
        key: dict(sorted(points.items()))
        for key, points in curves.items()
        if len(points) >= MINIMUM_DENSITIES
    }


def _of(records: Iterable[Record]) -> tuple[float, dict[str, str]] | None:
    """The density of a method's records, and by task their other settings as text; None if they
    have several densities or none, or if the settings of a task differ."""
    densities: set[float] = set()
    fields: dict[str, str] = {}
    for record in records:
        method = record.settings.get("method")
        if not isinstance(method, Mapping):
            return None
        density = method.get("density")
        if isinstance(density, bool) or not isinstance(density, int | float):
            return None
        if not 0 < density <= 1:
            return None
        densities.add(float(density))
        others = {name: value for name, value in method.items() if name != "density"}
        shared = [record.settings.get(name) for name in SHARED]
        text = json.dumps([others, shared], sort_keys=True, default=str)
        if fields.setdefault(record.cell.task, text) != text:
            return None
    return (densities.pop(), fields) if len(densities) == 1 else None
