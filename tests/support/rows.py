"""A good row of each task."""

# One good row per task; the tests below spoil them.
GOOD = {
    "cola": {"text": "The boy runs.", "label": "1", "idx": 3},
    "stsb": {"text_a": "A.", "text_b": "B.", "label": 2.5, "idx": 3},
    "mrpc": {"text_a": "A.", "text_b": "B.", "label": "0", "idx": 3},
    "rte": {"premise": "A.", "hypothesis": "B.", "label": "entailment", "idx": 3},
    "cb": {"premise": "A.", "hypothesis": "B.", "label": "neutral", "idx": 3},
    "copa": {
        "premise": "A.",
        "choice1": "B.",
        "choice2": "C.",
        "question": "cause",
        "label": 0,
        "idx": 3,
    },
    "wsc": {
        "text": "Anna saw Mary because she was there.",
        "target": {
            "span1_index": 0,
            "span1_text": "Anna",
            "span2_index": 4,
            "span2_text": "she",
        },
        "label": True,
        "idx": 3,
    },
    "sst": {"text": "fine", "label": "1"},
    "qnli": {"premise": "A?", "hypothesis": "B.", "label": "not_entailment"},
}
