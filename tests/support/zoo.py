"""A benchmark in which nearly everything is amiss: the golden files of the report are of it."""

from pathlib import Path
from typing import Any

from jiant_sparse.schema.record import DELTA, Cost, Machine, Params, Primary, Record
from support.records import failure, plan, provenance, record, write

TASKS = ["rte", "cb", "mrpc", "wsc", "mine"]
# Method -> score of its first seed on RTE.
METHODS = {
    "full_tuning": 0.74,
    "random": 0.73,
    "lora": 0.765,
    "mixout": 0.70,
    "sam": 0.76,
    "denser": 0.75,
    "stochastic_tuning": 0.748,
    "fish": 0.5,
}
ABSENT = {("cb", "lora", 1), ("cb", "fish", 0), ("cb", "fish", 1), ("cb", "fish", 2)}


def zoo(output_dir: Path) -> Path:
    """Five tasks, eight methods, three seeds; returns the benchmark's directory."""
    places = [(task, method, seed) for task in TASKS for method in METHODS for seed in range(3)]
    records = [cell(*place) for place in places if place not in ABSENT]
    records.append(failure("cb", "lora", 1, "RuntimeError: diverged\nat step 7"))
    # Neither is in the plan; of so many, the last errors are counted.
    records += [failure("rte", "gone", seed, f"boom {seed}") for seed in range(22)]
    directory = write(output_dir, *records)
    plan(TASKS, [*METHODS, "bitfit"], 3).write(directory)
    (directory / "rte/sam/seed-1" / DELTA).unlink()
    (directory / "cb/sam/seed-7").mkdir()
    (directory / "cb/sam/seed-7/record.json").write_text("{")
    return directory


def cell(task: str, method: str, seed: int) -> Record:
    """A cell; what is odd about it is in one of the lines below."""
    spread = 0.004 + 0.001 * [*METHODS].index(method)
    test: float | None = METHODS[method] - 0.03 * TASKS.index(task) + (0, spread, -spread / 3)[seed]
    setting: dict[str, Any] = {}
    times = Cost(train_seconds=40 + seed, select_seconds=2.0, step_milliseconds_median=70.5 + seed)
    changes: dict[str, Any] = {"cost": times, "inputs": {"test": task * 9}}
    counts = {"eligible": 1000, "selected": 400 + seed, "added": 0, "head": 20, "trainable": 420}
    match task:
        case "mine":
            setting["task"] = {"name": "mine", "like": "rte", "metric": "acc"}
        case "wsc":
            changes["provenance"] = provenance(dropped_examples={"test": 1, "dev": 2, "train": 9})
    match method:
        case "stochastic_tuning":
            changes["params"] = Params(**counts, changed=450, moved_per_step=10.5)
        case "lora":
            changes["params"] = Params(**counts | {"selected": 0, "added": 3}, changed=2)
        case "mixout":
            setting["method"] = {"name": "mixout", "q": 0.9}
        case "denser":
            setting["method"] = {"name": "sam", "density": 0.01}
        case "fish":
            changes |= {"params": None, "cost": Cost()}
    match task, method, seed:
        case "rte", "mixout", _:
            test = 0.69
        case "cb", "full_tuning", 2:
            test = None
        case "cb", "random", _:
            setting["split"] = "dev_as_test"
        case "mrpc", "random", _:
            setting["model"] = "tiny"
            changes["provenance"] = provenance(device="cuda:0 H200\x1b", threads=1)
        case "mrpc", "sam", _:
            changes["primary"] = Primary(name="acc", dev=0.7, test=0.71, majority=0.748)
        case "wsc", "full_tuning", 1:
            unknown = Machine(commit=None, dirty=None, versions={}, device=None, threads=None)
            setting["device"], changes["provenance"] = "cuda", provenance(earlier=[unknown])
    return record(task, method, seed, test, setting=setting, **changes)
