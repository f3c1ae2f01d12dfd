"""The second paper: what it compares, and how. Its table of scores could not be had.

Akbar-Tajari and Pilehvar 2024, "Stochastic Fine-Tuning of Language Models Using Masked Gradients",
Findings of EMNLP 2024: RoBERTa-base and -large, six GLUE tasks, 7 seeds, no test set apart from
the set that chooses.
"""

SOURCE = "Akbar-Tajari and Pilehvar 2024"
# In the order of its table; the names are ours where two papers call two methods alike.
METHODS = {
    "full_tuning": "FullTuning",
    "frozen": "Frozen",
    "random_per_step": "Random per step",
    "dps_mix": "DPS_Mix",
    "multi_head": "Multi-Head",
    "bitfit": "Bitfit",
    "top_tuning": "Top Tuning",
    "stochastic_tuning": "Stochastic Tuning",
}
TASKS = ("CoLA", "SST-2", "MRPC", "STS-B", "QNLI", "RTE")
# The way of splitting in which the reported set is the dev set.
SPLIT = "dev_as_test"
