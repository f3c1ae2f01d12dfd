"""jiant's rows and batches: true labels, drops counted, padding without effect, order by seed."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.models import in_turn
from support.refusals import refusal
from support.rows import read, uneven, write

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.errors import InputError
from jiant_sparse.host import compat, features, model
from jiant_sparse.host import runner as host_runner
from jiant_sparse.host.runner import SparseRunner
from jiant_sparse.host.train import train
from jiant_sparse.schema.cell import Train
from jiant_sparse.seeds import derive


@pytest.fixture(autouse=True)
def shims():
    with compat.shims():
        yield


def build(task, data_dir, model_dir):
    paths = {phase: data_dir / task / f"{phase}.jsonl" for phase in ("train", "val", "test")}
    jiant_task = features.make_task(task, paths)
    torch.manual_seed(0)
    jiant_model = model.build(model.resolve(str(model_dir)), jiant_task, "pooler").eval()
    return jiant_task, jiant_model, paths


def load(task, jiant_model, path, length=64):
    return features.load_phase(task, path, jiant_model.tokenizer, jiant_model.encoder, length)


@pytest.mark.parametrize(("task", "encoder"), in_turn(TASKS, "bert_dir", "roberta_dir"))
def test_labels_and_trimming(task, encoder, data_dir, request, monkeypatch):
    jiant_task, jiant_model, paths = build(task, data_dir, request.getfixturevalue(encoder))
    labels = load(jiant_task, jiant_model, paths["test"]).labels
    expected = [row["label"] for row in read(paths["test"])]
    if task != "stsb":
        names = getattr(jiant_task, "LABELS", [0, 1])
        expected = [list(names).index(label) for label in expected]
    np.testing.assert_array_equal(np.asarray(labels).ravel(), expected)
    assert len(set(map(float, expected))) > 1
    # As jiant pads without smart_truncate: every row to the longest length allowed.
    monkeypatch.setattr(features.preprocessing, "smart_truncate", lambda rows, n: (rows, n))
    rows = load(jiant_task, jiant_model, paths["train"]).rows
    padded, _ = jiant_task.collate_fn(rows[:6])
    trimmed = features.trim(padded)
    assert trimmed.input_ids.shape[-1] < padded.input_ids.shape[-1] == 64
    assert int(trimmed.input_mask.sum()) == int(padded.input_mask.sum())
    with torch.no_grad():
        logits = [jiant_model(batch, jiant_task)["logits"] for batch in (padded, trimmed)]
    torch.testing.assert_close(*logits, rtol=0, atol=1e-5)
    alone = [features.trim(jiant_task.collate_fn([row])[0]).input_ids.shape[-1] for row in rows]
    assert features.lengths(rows).tolist() == alone


def test_wsc_is_cut(tmp_path, data_dir, bert_dir):
    task, jiant_model, _ = build("wsc", data_dir, bert_dir)
    path = tmp_path / "wsc.jsonl"

    def loaded(span2):
        """A sentence of 40 words with spans at words 0 and `span2`, and a short one; 32 fit."""
        span = {"span1_index": 0, "span1_text": "king", "span2_text": "king"}
        rows = [
            {"text": "king " * n, "target": span | {"span2_index": at}, "label": bool(i), "idx": i}
            for i, (n, at) in enumerate([(40, span2), (5, 3)])
        ]
        write(path, rows)
        return load(task, jiant_model, path, 32)

    phase = loaded(20)
    assert (len(phase.rows), phase.dropped, len(phase.labels)) == (2, 0, 2)
    assert phase.rows[0]["data_row"].spans.tolist() == [[1, 1], [21, 21]]
    assert loaded(29).dropped == 0
    phase = loaded(30)
    assert (len(phase.rows), phase.dropped) == (1, 1)
    assert [int(label) for label in phase.labels] == [1]


def test_dropped_rows_limit():
    def check(paths, train, val, test):
        """100 rows a phase, so many of them dropped."""
        phases = {"train": features.Phase([{}], [], dropped=99)}
        for name, dropped in (("val", val), ("test", test)):
            phases[name] = features.Phase([{}] * (100 - dropped), [], dropped)
        features.check_dropped(phases, paths, train)

    paths = {name: Path(f"wsc/{name}.jsonl") for name in ("train", "val", "test")}
    train = Train(max_seq_length=16)
    check(paths, train, 1, 1)
    check(paths, Train(max_seq_length=16, allow_dropped=True), 2, 86)
    problems = refusal(check, paths, train, 2, 86).splitlines()
    would = "rows do not fit train.max_seq_length 16 and would be left out; at most 1 % may be"
    advice = "raise it, or set train.allow_dropped to true"
    assert problems == [
        f"wsc/val.jsonl: 2 of 100 {would}; {advice}",
        f"wsc/test.jsonl: 86 of 100 {would}; {advice}",
    ]
    twice = refusal(check, paths | {"val": paths["test"]}, train, 86, 86)
    assert len(twice.splitlines()) == 1


def test_unreadable_example(data_dir, bert_dir, monkeypatch):
    task, jiant_model, paths = build("cb", data_dir, bert_dir)
    monkeypatch.setattr(jiant_model.tokenizer, "tokenize", lambda text: 1 / 0)
    with pytest.raises(InputError, match="val-[0-9]+: jiant cannot make features of it: Zero"):
        load(task, jiant_model, paths["val"])


def masked_rows(*masks: list) -> list[dict]:
    return [{"data_row": SimpleNamespace(input_mask=np.array(mask))} for mask in masks]


def test_longest_choice_counts():
    rows = masked_rows([[1, 1, 1, 0], [1, 0, 0, 0]], [[1, 0, 0, 0], [1, 1, 0, 0]])
    assert features.lengths(rows).tolist() == [3, 2]


# In batches of 4: four windows of 8 batches, one of 3, and three rows over. Many are equally long.
LENGTHS = np.random.RandomState(0).randint(1, 9, size=4 * 35 + 3).tolist()
ROWS = masked_rows(*([1] * length + [0] * (9 - length) for length in LENGTHS))


def orders(rows=ROWS, size=4, seed=1, **settings) -> list[list[int]]:
    epochs = features.Epochs(None, rows, size, seed=seed, train=Train(**settings))
    return [epochs.order(epoch).tolist() for epoch in range(3)]


def cut(positions, size) -> list[tuple]:
    return [tuple(positions[start : start + size]) for start in range(0, len(positions), size)]


def test_order_is_pinned():
    """So that records made with one version can be made again with the next."""
    assert orders(ROWS[:10]) == [
        [2, 4, 5, 6, 8, 3, 9, 1, 7, 0],
        [0, 1, 7, 2, 4, 9, 3, 6, 5, 8],
        [2, 8, 1, 6, 4, 0, 3, 7, 5, 9],
    ]


@pytest.mark.parametrize("grouping", [None, 8])
def test_orders_are_permutations_by_seed_and_epoch(grouping):
    first = orders(length_grouping=grouping)
    np.random.rand(5), torch.rand(5)
    assert orders(length_grouping=grouping) == first
    assert all(sorted(order) == list(range(len(ROWS))) for order in first)
    assert len(set(map(tuple, first + orders(seed=2, length_grouping=grouping)))) == 6
    assert orders(length_grouping=grouping, reshuffle=False) == [first[0]] * 3
    for size, rows in ((1, ROWS), (4, ROWS[:3]), (4, ROWS[:4]), (200, ROWS)):
        for order in orders(rows, size, length_grouping=grouping):
            assert sorted(order) == list(range(len(rows)))


def test_grouping_sorts_each_window_and_shuffles_its_batches():
    for order, plain in zip(orders(length_grouping=8), orders(), strict=True):
        # The short batch is the one of an epoch without grouping, and as late.
        assert order[140:] == plain[140:]
        in_order_of_length = 0
        for found, window in zip(cut(order[:140], 32), cut(plain[:140], 32), strict=True):
            # Stable: rows of one length stay in their random order.
            expected = cut(sorted(window, key=LENGTHS.__getitem__), 4)
            assert sorted(cut(found, 4)) == sorted(expected)
            in_order_of_length += cut(found, 4) == expected
        # Three batches may be shuffled into their own order, eight hardly.
        assert in_order_of_length <= 1


@pytest.mark.parametrize("grouping", [None, 2])
def test_batches_continue_over_epochs(grouping, data_dir, bert_dir):
    task, jiant_model, paths = build("cb", data_dir, bert_dir)
    rows = load(task, jiant_model, paths["val"]).rows
    epochs = features.Epochs(task, rows, 4, seed=0, train=Train(length_grouping=grouping))
    popped = [epochs.pop()[1]["example_id"] for _ in range(6)]
    assert [len(ids) for ids in popped] == [4, 4, 2, 4, 4, 2]
    for epoch in (popped[:3], popped[3:]):
        assert sorted(sum(epoch, [])) == list(range(10))


def test_training_and_probing_on_grouped_batches(make_job, data_dir, monkeypatch):
    popped = {1: [], 4: []}
    plain_pop = features.Epochs.pop

    def pop(epochs):
        batch, metadata = plain_pop(epochs)
        popped[epochs.batch_size].append(tuple(metadata["example_id"]))
        return batch, metadata

    monkeypatch.setattr(features.Epochs, "pop", pop)
    settings = {"length_grouping": 2, "max_steps": 6}
    job = make_job("copa", "fish", {"samples": 5, "density": 0.1}, train=settings)
    train(job)
    assert job.cell.settings["train"]["length_grouping"] == 2
    jiant_task, jiant_model, paths = build("copa", data_dir, job.source.path)
    rows = load(jiant_task, jiant_model, paths["train"]).rows
    epochs = features.Epochs(None, rows, 4, seed=derive(0, "train"), train=job.cell.train)
    assert popped[4] == cut(epochs.order(0).tolist(), 4)
    assert len(set(popped[1])) == 5


def phase_of(row_lengths, labels):
    rows = masked_rows(*([1] * length + [0] * (9 - length) for length in row_lengths))
    return features.Phase(rows, labels, dropped=0)


@pytest.mark.parametrize("kind", [list, np.array])
def test_longest_rows_first(kind, monkeypatch):
    phase = phase_of([2, 5, 2, 9, 5, 1], kind([0, 1, 2, 3, 4, 5]))
    for limit, expected in ((None, [3, 1, 4, 0, 2, 5]), (3, [1, 0, 2]), (99, [3, 1, 4, 0, 2, 5])):
        rows, labels = phase.by_length(limit)
        assert [id(row) for row in rows] == [id(phase.rows[place]) for place in expected]
        assert type(labels) is type(phase.labels) and [*labels] == expected
    stable = phase_of([3, 5] * 100, kind(range(200)))
    assert [*stable.by_length()[1]] == [*range(1, 200, 2), *range(0, 200, 2)]
    monkeypatch.setattr(features, "lengths", lambda rows: 1 / 0)  # the order is found once
    assert phase.by_length() is phase.by_length(6) is phase.by_length(99)
    assert phase.by_length(3) is phase.by_length(3)


@pytest.mark.parametrize(
    ("padding", "tokens", "expected"),
    [
        ("packed", 14, [[9, 5], [5, 2, 2, 1]]),
        ("packed", 13, [[9], [5, 5, 2], [2, 1]]),
        ("trimmed", 13, [[9], [5, 5], [2, 2, 1]]),
        ("jiant", 26, [[9, 5], [5, 2], [2, 1]]),
        ("jiant", 27, [[9, 5, 5], [2, 2, 1]]),
        *[(padding, 1, [[9], [5], [5], [2], [2], [1]]) for padding in ("packed", "jiant")],
        *[(padding, 99, [[9, 5, 5, 2, 2, 1]]) for padding in ("packed", "trimmed", "jiant")],
    ],
)
def test_batches_within_a_budget_of_tokens(padding, tokens, expected):
    """As many rows as fit, at least one."""
    rows = phase_of([9, 5, 5, 2, 2, 1], [0] * 6).rows
    parts = [*features.within(rows, tokens, padding)]
    assert [id(row) for part in parts for row in part] == [*map(id, rows)]
    assert [features.lengths(part).tolist() for part in parts] == expected


@pytest.mark.parametrize(("padding", "sizes"), [("packed", [2, 1]), ("trimmed", [1, 1, 1])])
def test_all_choices_of_a_row_are_computed(padding, sizes):
    rows = masked_rows(*[[[1, 1, 1, 0], [1, 0, 0, 0]]] * 3)
    assert [len(part) for part in features.within(rows, 8, padding)] == sizes


class Compared(Exception):
    """The test has seen what it wants of a cell."""


@pytest.mark.parametrize("task", ["cola", "stsb", "mrpc", "cb", "copa", "wsc"])
def test_scores_do_not_depend_on_the_order(task, make_job, data_dir, tmp_path, monkeypatch):
    """And the order by length computes less padding."""
    plain_score, plain_trim, tokens = SparseRunner.score, features.trim, []

    def trim(batch):
        trimmed = plain_trim(batch)
        tokens.append(trimmed.input_ids.numel())
        return trimmed

    def as_they_are(phase, limit):
        return phase.rows[:limit], phase.labels[:limit]

    def scored(runner, phase, limit):
        tokens.clear()
        metrics = plain_score(runner, phase, limit)
        return {"major": metrics.major, **metrics.minor}, sum(tokens)

    def score(runner, phase, limit=None):
        # In float64: sums over padding of another width end in other bits. And of logits around
        # their median: a random model predicts one class, and any order is right for it.
        head, seen = runner.jiant_model.double().taskmodels_dict[task].head, []
        head.register_forward_hook(lambda module, inputs, output: seen.append(output))
        plain_score(runner, "train")
        middle = torch.cat(seen).median(0).values
        head.register_forward_hook(lambda module, inputs, output: output - middle)
        everything = [(phase, limit) for phase in runner.phases for limit in (None, 7)]
        sorted_ones = [scored(runner, *what) for what in everything]
        monkeypatch.setattr(features.Phase, "by_length", as_they_are)
        for found, what in zip(sorted_ones, everything, strict=True):
            expected = scored(runner, *what)
            assert found[0] == pytest.approx(expected[0], abs=1e-12, rel=0)
            assert found[1] < expected[1]
            scores.add(expected[0]["major"])
        raise Compared

    def by_four(rows, tokens, padding):
        return (rows[start : start + 4] for start in range(0, len(rows), 4))

    monkeypatch.setattr(features, "trim", trim)
    monkeypatch.setattr(host_runner, "within", by_four)
    monkeypatch.setattr(SparseRunner, "score", score)
    scores = set()
    uneven_dir = uneven(data_dir, task, tmp_path / "uneven")
    with pytest.raises(Compared):
        train(make_job(task, data_dir=str(uneven_dir)))
    assert len(scores) > 2


@pytest.mark.parametrize("padding", ["packed", "trimmed"])
@pytest.mark.parametrize("task", ["stsb", "copa", "wsc"])
def test_scores_do_not_depend_on_the_budget(
    task, padding, make_job, data_dir, tmp_path, monkeypatch
):
    """But by rounding. And scoring keeps nothing for a gradient and drops nothing out."""
    plain, seen = SparseRunner.score, []

    def look(model, inputs, output):
        assert not output["logits"].requires_grad
        assert not any(module.training for module in model.modules())
        seen.append(output["logits"])

    def score(runner, phase, limit=None):
        # In float64: the tiny model predicts nearly a constant, whose correlations rounding moves.
        runner.jiant_model.double().register_forward_hook(look)
        found, batches = [], []
        for tokens in (10**6, 120, 1):
            changes = {"eval_tokens": tokens}
            runner.train_settings = runner.train_settings.model_copy(update=changes)
            majors = [plain(runner, phase).major for phase in runner.phases]
            found.append((majors, torch.cat(seen)))
            batches.append(len(seen))
            seen.clear()
        assert batches[0] == 3 < batches[1] < batches[2] == len(found[0][1])
        for majors, logits in found[1:]:
            assert majors == pytest.approx(found[0][0], abs=1e-6, rel=0)
            torch.testing.assert_close(logits, found[0][1], rtol=0, atol=1e-6)
        raise Compared

    monkeypatch.setattr(SparseRunner, "score", score)
    uneven_dir = uneven(data_dir, task, tmp_path / "uneven")
    fields = {"padding": padding, "max_steps": 1, "eval_every": 1}
    with pytest.raises(Compared):
        train(make_job(task, "random", {"density": 0.1}, fields, data_dir=str(uneven_dir)))
