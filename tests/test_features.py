"""jiant's rows and batches: true labels, nothing lost unseen, padding without effect."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jiant_sparse.errors import InputError
from jiant_sparse.host import compat, features, model
from jiant_sparse.host.runner import SparseRunner
from jiant_sparse.host.train import train
from jiant_sparse.schema.cell import Train
from jiant_sparse.seeds import derive

TASKS = ["cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc", "sst", "qnli"]


@pytest.fixture(autouse=True)
def jiant_as_we_run_it():
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


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("encoder", ["bert_dir", "roberta_dir"])
def test_trimming_changes_no_logits(task, encoder, data_dir, request, monkeypatch):
    # As jiant pads without smart_truncate: every row to the longest length allowed.
    monkeypatch.setattr(features.preprocessing, "smart_truncate", lambda rows, n: (rows, n))
    jiant_task, jiant_model, paths = build(task, data_dir, request.getfixturevalue(encoder))
    rows = load(jiant_task, jiant_model, paths["train"]).rows
    padded, _ = jiant_task.collate_fn(rows[:6])
    trimmed = features.trim(padded)
    assert trimmed.input_ids.shape[-1] < padded.input_ids.shape[-1] == 64
    assert int(trimmed.input_mask.sum()) == int(padded.input_mask.sum())
    with torch.no_grad():
        logits = [jiant_model(batch, jiant_task)["logits"] for batch in (padded, trimmed)]
    torch.testing.assert_close(*logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_test_labels_are_the_true_ones(task, data_dir, bert_dir):
    jiant_task, jiant_model, paths = build(task, data_dir, bert_dir)
    labels = load(jiant_task, jiant_model, paths["test"]).labels
    rows = [json.loads(line) for line in paths["test"].read_text().splitlines()]
    expected = [row["label"] for row in rows]
    if task != "stsb":
        names = getattr(jiant_task, "LABELS", [0, 1])
        expected = [list(names).index(label) for label in expected]
    np.testing.assert_array_equal(np.asarray(labels).ravel(), expected)
    assert len(set(map(float, expected))) > 1


def wsc_file(path, length, span2):
    """One sentence of `length` words with spans at word 0 and at word `span2`, and a short one."""
    words = ["king"] * length
    rows = [
        {
            "idx": index,
            "text": " ".join(text),
            "label": bool(index),
            "target": {
                "span1_index": 0, "span1_text": "king", "span2_index": at, "span2_text": "king",
            },
        }
        for index, (text, at) in enumerate([(words, span2), (["king"] * 5, 3)])
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_wsc_is_cut_to_length_and_examples_that_lose_a_span_are_counted(
    tmp_path, data_dir, bert_dir
):
    task, jiant_model, _ = build("wsc", data_dir, bert_dir)
    path = tmp_path / "wsc.jsonl"
    wsc_file(path, length=40, span2=20)
    phase = load(task, jiant_model, path, 32)
    assert (len(phase.rows), phase.dropped, len(phase.labels)) == (2, 0, 2)
    assert phase.rows[0]["data_row"].spans.tolist() == [[1, 1], [21, 21]]
    wsc_file(path, length=40, span2=30)
    phase = load(task, jiant_model, path, 32)
    assert (len(phase.rows), phase.dropped) == (1, 1)
    assert [int(label) for label in phase.labels] == [1]
    wsc_file(path, length=40, span2=29)
    assert load(task, jiant_model, path, 32).dropped == 0


def phases(**dropped):
    """Of each phase 100 rows, so many of them left out."""
    names = ("train", "val", "test")
    left_out = {name: dropped.get(name, 0) for name in names}
    return {
        name: features.Phase([{}] * (100 - number), [], dropped=number)
        for name, number in left_out.items()
    }


def test_more_than_one_in_a_hundred_rows_left_out_is_an_error():
    paths = {name: Path(f"wsc/{name}.jsonl") for name in ("train", "val", "test")}
    train = Train(max_seq_length=16)
    features.check_dropped(phases(train=99, val=1, test=1), paths, train)
    with pytest.raises(InputError) as caught:
        features.check_dropped(phases(val=2, test=86), paths, train)
    would = "rows do not fit train.max_seq_length 16 and would be left out; at most 1 % may be"
    advice = "raise it, or set train.allow_dropped to true"
    assert caught.value.problems == (
        f"wsc/val.jsonl: 2 of 100 {would}; {advice}",
        f"wsc/test.jsonl: 86 of 100 {would}; {advice}",
    )
    both = paths | {"val": paths["test"]}
    with pytest.raises(InputError) as caught:
        features.check_dropped(phases(val=86, test=86), both, train)
    assert len(caught.value.problems) == 1
    allowed = Train(max_seq_length=16, allow_dropped=True)
    features.check_dropped(phases(val=2, test=86), paths, allowed)


def test_an_example_that_jiant_cannot_read_is_named(tmp_path, data_dir, bert_dir, monkeypatch):
    task, jiant_model, paths = build("cb", data_dir, bert_dir)
    monkeypatch.setattr(jiant_model.tokenizer, "tokenize", lambda text: 1 / 0)
    with pytest.raises(InputError, match="val-[0-9]+: jiant cannot make features of it: Zero"):
        load(task, jiant_model, paths["val"])


def test_the_order_without_grouping_never_changes():
    # Written down, so that records made with one version can be made again with the next.
    assert orders(seed=1) == [
        [2, 4, 5, 6, 8, 3, 9, 1, 7, 0],
        [0, 1, 7, 2, 4, 9, 3, 6, 5, 8],
        [2, 8, 1, 6, 4, 0, 3, 7, 5, 9],
    ]


def orders(**options) -> list[list[int]]:
    epochs = features.Epochs(None, list(range(10)), 4, **options)
    return [epochs.order(epoch).tolist() for epoch in range(3)]


def test_epochs_are_permutations_that_depend_on_seed_and_epoch_alone():
    first = orders(seed=1)
    np.random.rand(5), torch.rand(5)
    assert orders(seed=1) == first
    assert all(sorted(order) == list(range(10)) for order in first)
    assert len(set(map(tuple, first + orders(seed=2)))) == 6
    replayed = orders(seed=1, train=Train(reshuffle=False))
    assert replayed == [first[0]] * 3


def test_batches_go_on_over_epochs_and_keep_the_last_short_one(data_dir, bert_dir):
    task, jiant_model, paths = build("cb", data_dir, bert_dir)
    rows = load(task, jiant_model, paths["val"]).rows
    epochs = features.Epochs(task, rows, 4, seed=0)
    sizes, seen = [], []
    for _ in range(6):
        batch, metadata = epochs.pop()
        sizes.append(len(batch))
        seen += metadata["example_id"]
    assert sizes == [4, 4, 2, 4, 4, 2]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))


def masked_rows(*masks: list) -> list[dict]:
    return [{"data_row": SimpleNamespace(input_mask=np.array(mask))} for mask in masks]


@pytest.mark.parametrize("task", ["cola", "rte", "cb", "copa"])
def test_a_rows_length_is_what_trimming_leaves_of_it(task, data_dir, bert_dir):
    jiant_task, jiant_model, paths = build(task, data_dir, bert_dir)
    rows = load(jiant_task, jiant_model, paths["train"]).rows
    alone = [features.trim(jiant_task.collate_fn([row])[0]).input_ids.shape[-1] for row in rows]
    found = features.lengths(rows)
    assert found.tolist() == alone
    assert len(set(alone)) > 1 and found.max() == rows[0]["data_row"].input_ids.shape[-1]


def test_of_several_choices_the_longest_counts():
    rows = masked_rows([[1, 1, 1, 0], [1, 0, 0, 0]], [[1, 0, 0, 0], [1, 1, 0, 0]])
    assert features.lengths(rows).tolist() == [3, 2]


# In batches of 4: four windows of 8 batches, one of 3, and three rows over. Many are equally long.
LENGTHS = np.random.RandomState(0).randint(1, 9, size=4 * 35 + 3).tolist()
ROWS = masked_rows(*([1] * length + [0] * (9 - length) for length in LENGTHS))


def grouped(size=4, rows=ROWS, seed=1, **settings) -> list[list[int]]:
    settings = Train(**{"length_grouping": 8} | settings)
    epochs = features.Epochs(None, rows, size, seed=seed, train=settings)
    return [epochs.order(epoch).tolist() for epoch in range(3)]


def cut(positions, size) -> list[tuple]:
    return [tuple(positions[start : start + size]) for start in range(0, len(positions), size)]


def test_rows_are_batched_by_length_within_their_window():
    for epoch, order in enumerate(grouped()):
        plain = features.Epochs(None, ROWS, 4, seed=1).order(epoch).tolist()
        # The short batch is that of an epoch without grouping, and as late.
        assert order[140:] == plain[140:]
        in_order_of_length = 0
        for found, window in zip(cut(order[:140], 32), cut(plain[:140], 32), strict=True):
            # Stable: rows of one length stay in their random order.
            expected = cut(sorted(window, key=LENGTHS.__getitem__), 4)
            assert sorted(cut(found, 4)) == sorted(expected)
            in_order_of_length += cut(found, 4) == expected
        # Three batches may be shuffled into their own order, eight hardly.
        assert in_order_of_length <= 1


def test_grouped_epochs_are_permutations_that_depend_on_seed_and_epoch_alone():
    first = grouped()
    np.random.rand(5), torch.rand(5)
    assert grouped() == first
    assert all(sorted(order) == list(range(len(ROWS))) for order in first)
    assert len(set(map(tuple, first + grouped(seed=2)))) == 6
    assert grouped(reshuffle=False) == [first[0]] * 3


@pytest.mark.parametrize("size, rows", [(1, ROWS), (4, ROWS[:3]), (4, ROWS[:4]), (200, ROWS)])
def test_grouping_takes_any_size_of_batch(size, rows):
    for order in grouped(size, rows):
        assert sorted(order) == list(range(len(rows)))


def test_grouped_batches_have_the_sizes_of_others(data_dir, bert_dir):
    task, jiant_model, paths = build("cb", data_dir, bert_dir)
    rows = load(task, jiant_model, paths["val"]).rows
    epochs = features.Epochs(task, rows, 4, seed=0, train=Train(length_grouping=2))
    assert [len(epochs.pop()[0]) for _ in range(6)] == [4, 4, 2, 4, 4, 2]


@pytest.mark.parametrize("window", [0, 1])
def test_a_window_of_fewer_than_two_batches_is_refused(window, make_job):
    message = f"train.length_grouping: is {window}; it should be greater than or equal to 2"
    with pytest.raises(InputError, match=message):
        make_job(train={"length_grouping": window})


@pytest.mark.parametrize("task", ["cb", "copa"])
def test_a_cell_trains_and_probes_on_grouped_batches(task, make_job, data_dir, monkeypatch):
    popped = {1: [], 4: []}
    plain_pop = features.Epochs.pop

    def pop(epochs):
        batch, metadata = plain_pop(epochs)
        popped[epochs.batch_size].append(tuple(metadata["example_id"]))
        return batch, metadata

    monkeypatch.setattr(features.Epochs, "pop", pop)
    settings = {"length_grouping": 2, "max_steps": 6}
    job = make_job(task, "fish", {"samples": 5, "density": 0.1}, train=settings)
    train(job)
    assert job.cell.settings["train"]["length_grouping"] == 2
    jiant_task, jiant_model, paths = build(task, data_dir, job.source.path)
    rows = load(jiant_task, jiant_model, paths["train"]).rows
    epochs = features.Epochs(None, rows, 4, seed=derive(0, "train"), train=job.cell.train)
    assert popped[4] == cut(epochs.order(0).tolist(), 4)
    assert len(set(popped[1])) == 5
    assert make_job(task).cell.train.length_grouping is None


def phase_of(lengths_of_rows, labels):
    rows = masked_rows(*([1] * length + [0] * (9 - length) for length in lengths_of_rows))
    return features.Phase(rows, labels, dropped=0)


@pytest.mark.parametrize("kind", [list, np.array])
def test_rows_and_their_labels_are_given_longest_first(kind):
    phase = phase_of([2, 5, 2, 9, 5, 1], kind([0, 1, 2, 3, 4, 5]))
    for limit, expected in ((None, [3, 1, 4, 0, 2, 5]), (3, [1, 0, 2]), (99, [3, 1, 4, 0, 2, 5])):
        rows, labels = phase.by_length(limit)
        assert [id(row) for row in rows] == [id(phase.rows[place]) for place in expected]
        assert type(labels) is type(phase.labels) and [*labels] == expected
    phase = phase_of([3, 5] * 100, kind(range(200)))
    assert [*phase.by_length()[1]] == [*range(1, 200, 2), *range(0, 200, 2)]


def test_the_order_by_length_is_found_once(monkeypatch):
    phase = phase_of([1, 2, 3], np.arange(3))
    found = phase.by_length(), phase.by_length(2)
    monkeypatch.setattr(features, "lengths", lambda rows: 1 / 0)
    assert phase.by_length() is phase.by_length(3) is phase.by_length(9) is found[0]
    assert phase.by_length(2) is found[1]


class Compared(Exception):
    """What is to be seen of a cell has been seen."""


def uneven(data_dir, task, directory):
    """The task's files with a random number of words after each text."""
    draw = np.random.RandomState(0)
    (directory / task).mkdir(parents=True)
    for path in (data_dir / task).iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            for name in {"text", "text_a", "text_b", "premise", "hypothesis", "choice1"} & {*row}:
                row[name] += " king" * draw.randint(20)
        (directory / task / path.name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


@pytest.mark.parametrize("task", TASKS)
def test_scores_do_not_depend_on_the_order_and_less_padding_is_computed(
    task, make_job, data_dir, tmp_path, monkeypatch
):
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

    monkeypatch.setattr(features, "trim", trim)
    monkeypatch.setattr(SparseRunner, "score", score)
    scores = set()
    uneven_dir = uneven(data_dir, task, tmp_path / "uneven")
    with pytest.raises(Compared):
        train(make_job(task, data_dir=str(uneven_dir), train={"eval_batch_size": 4}))
    assert len(scores) > 2
