"""The programs in examples/ run, on tiny random models and made-up rows."""

import runpy
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from jiant_sparse import SparseModel

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_classification_with_a_trainer(bert_dir, texts, tmp_path):
    words = texts[0].split()
    lines = [f"{'ny'[n % 2]}\t{' '.join(words[n : n + 3])[:60]}\n" for n in range(20)]
    train, dev = tmp_path / "train.tsv", tmp_path / "dev.tsv"
    train.write_text("".join(lines[:16]))
    dev.write_text("".join(lines[16:]))
    main = runpy.run_path(str(EXAMPLES / "classification_trainer.py"))["main"]
    out, options = tmp_path / "out", {"use_cpu": True, "num_train_epochs": 2}
    trainer = main(str(bert_dir), str(train), str(dev), str(out), **options)
    assert {"delta.safetensors", "sparse_config.json", "vocab.txt"} <= {
        path.name for path in out.iterdir()
    }
    base = AutoModelForSequenceClassification.from_pretrained(bert_dir)
    loaded = SparseModel.from_pretrained(base, out)
    batch = {
        key: value.cpu() for key, value in trainer.data_collator([trainer.train_dataset[0]]).items()
    }
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, trainer.model.eval()(**batch).logits)
