"""Tune 0.5 % of an encoder's weights on rows of text and label; save the values that differ.

    python classification_trainer.py MODEL TRAIN.tsv DEV.tsv OUT

MODEL: a folder or name of a model of transformers. The files have lines of a label, a tab and a
text. OUT gets checkpoints during training, and in the end the delta of the best of them.
"""

import sys
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from jiant_sparse import SparseConfig, SparseTrainerMixin, get_sparse_model


class SparseTrainer(SparseTrainerMixin, transformers.Trainer):
    pass


def main(name: str, train: str, dev: str, out: str, **options: Any) -> SparseTrainer:
    """Train, and return the trainer. options: further fields of TrainingArguments."""
    parts = [
        [line.split("\t", 1) for line in Path(p).read_text().splitlines()] for p in (train, dev)
    ]
    labels = sorted({label for label, _ in parts[0]})
    tokenizer = AutoTokenizer.from_pretrained(name)
    train_rows, dev_rows = (
        [{**tokenizer(text, truncation=True), "label": labels.index(label)} for label, text in part]
        for part in parts
    )
    collator = transformers.DataCollatorWithPadding(tokenizer)
    names = dict(enumerate(labels))
    base = AutoModelForSequenceClassification.from_pretrained(name, id2label=names)

    config = SparseConfig("sam", density=0.005, method_kwargs={"burn_in": 8})
    calibration = [collator(train_rows[n : n + 8]) for n in range(0, len(train_rows), 8)]
    model = get_sparse_model(base, config, calibration)
    model.print_trainable_parameters()
    arguments = transformers.TrainingArguments(
        out, learning_rate=1e-3, report_to="none", load_best_model_at_end=True,
        eval_strategy="epoch", save_strategy="epoch", save_total_limit=1, **options
    )  # fmt: skip
    rows = {"train_dataset": train_rows, "eval_dataset": dev_rows}
    trainer = SparseTrainer(model, arguments, collator, processing_class=tokenizer, **rows)
    trainer.train()
    trainer.save_model(out)
    return trainer


if __name__ == "__main__":
    main(*sys.argv[1:])
