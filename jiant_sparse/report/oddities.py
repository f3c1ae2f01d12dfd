"""What is odd about the published numbers themselves; a reader who compares has to know it.

Found by recomputing the paper's tables and figures (Fu et al. 2023, arXiv 2211.15583, its poster
and its slides) from each other; nothing here is about a run of ours. The tests recompute what the
files of `published` allow.
"""

from dataclasses import dataclass

from jiant_sparse.report.frame import Frame
from jiant_sparse.report.published import METHODS, TASKS


@dataclass(frozen=True)
class Oddity:
    """Where it is, and what; a sentence or a few.

    It concerns a report that shows one of `tables` (1 main, 2 perturbed), one of the tasks with
    these titles and one of the methods with these keys.
    """

    places: tuple[str, ...]
    text: str
    tables: tuple[int, ...] = (1, 2)
    tasks: tuple[str, ...] = TASKS
    methods: tuple[str, ...] = tuple(METHODS)


ODDITIES = (
    Oddity(
        ("Table 1",),
        "Each AVG is the mean of the seven means and of the seven deviations above it. Four are "
        "printed 0.01 higher than that: the mean of MagPruning and the deviations of MixOut, LoRA "
        "and DiffPruning.",
        tables=(1,),
        methods=("mag_pruning", "mixout", "lora", "diff_pruning"),
    ),
    Oddity(
        ("Table 2",),
        "Adapter's AVG deviation is printed as 2.79; the seven deviations give 2.80.",
        tables=(2,),
        methods=("adapter",),
    ),
    Oddity(
        ("text", "Table 1"),
        "The text says that even Random outperforms FullTuning. By the AVG of Table 1 it does not: "
        "74.55 against 74.78. Poster and slides say instead that it is more stable. In Table 2 it "
        "is ahead by 0.02.",
        methods=("random", "full_tuning"),
    ),
    Oddity(
        ("Table 1", "Table 2", "Table 5", "Table 6"),
        "10 runs behind each value cannot be exact. An accuracy over so many runs and test "
        "examples takes only certain values; these are not among those of 10. Table 1: MixOut on "
        "CB (9 runs would do), MagPruning on RTE (a multiple of 3), ChildPruning on RTE (7) and "
        "WSC (11), FullTuning and LoRA on WSC (9). Table 2: FullTuning on RTE (9), Bitfit on RTE "
        "(a multiple of 3) and CB (8), LoRA on CB (a multiple of 3) and COPA (of 4), Random and "
        "Adapter on WSC (7), ChildPruning on RTE (no number up to 12). Tables 5 and 6 bear out "
        "most: their t follow with 9 runs of MixOut on CB, MagPruning on RTE, and FullTuning and "
        "LoRA on WSC (Table 1) and, in Table 2, with 9 of FullTuning and Bitfit on RTE, 8 of "
        "Bitfit and 6 of LoRA on CB, and 8 of LoRA on COPA. The tests of this report take 10 "
        "everywhere.",
        tasks=("RTE", "CB", "COPA", "WSC"),
    ),
    Oddity(
        ("Table 1", "Table 2", "Fig. 5"),
        "CB is called a SuperGLUE task, whose score is the mean of accuracy and F1. The printed "
        "values are accuracy alone; the authors' program chose the checkpoint by the mean of both.",
        tasks=("CB",),
    ),
    Oddity(
        ("Table 1", "Table 2", "Fig. 5"),
        "MRPC's metric is not named. The values are no accuracies of 408 examples and, for "
        "DiffPruning, too low for F1 alone: they are the mean of accuracy and F1.",
        tasks=("MRPC",),
    ),
    Oddity(
        ("Table 1", "Table 2", "Fig. 5"),
        "STS-B's metric is not named, and the digits do not tell; we take the mean of Pearson's "
        "and Spearman's correlation, as GLUE does.",
        tasks=("STS-B",),
    ),
    Oddity(
        ("Table 1", "Table 2", "Fig. 5"),
        "Every published score on WSC, 52.88 to 60.48, lies below 63.46, which always giving the "
        "more frequent answer scores: differences between methods there are differences in noise.",
        tasks=("WSC",),
    ),
    Oddity(
        ("text", "Table 3"),
        "The text says that Adapter and LoRA train faster than FullTuning. By AVG, LoRA takes "
        "longer: 1.97 h against 1.67 h. MixOut and MagPruning are not in the table.",
        methods=("full_tuning", "adapter", "lora", "mixout", "mag_pruning"),
    ),
    Oddity(
        ("Table 4",),
        "Bitfit's 0.09 % is its share of BERT-base. Of RoBERTa-base with its pooler it is 0.083 %.",
        methods=("bitfit",),
    ),
    Oddity(
        ("Table 4",),
        "LoRA's 0.91 % cannot be traced. The setting that the paper calls official (query and "
        "value, rank 8) gives 0.24 %; the layers of the authors' program come closest with rank 7, "
        "0.93 %. Their rank is not published.",
        methods=("lora",),
    ),
    Oddity(
        ("Table 5", "Table 1"),
        "The tests are pooled two-sample t-tests. The columns CoLA, RTE and CB follow from Table "
        "1 (with the numbers of runs said above). The others need another row for SAM than the "
        "printed one. Within rounding they follow from STS-B 90.61 ± 0.165 (printed 90.59 ± 0.14), "
        "COPA 74.39 ± 4.05 (74.30 ± 2.45), WSC 60.76 ± 4.63 (59.52 ± 3.08) and, all but Bitfit's, "
        "MRPC 88.945 ± 0.70 (88.84 ± 0.49). So they are tests of other runs, and the printed "
        "deviations of SAM are the smaller ones.",
        tables=(1,),
        tasks=("STS-B", "MRPC", "COPA", "WSC"),
        methods=("sam",),
    ),
    Oddity(
        ("Table 6", "Table 2"),
        "The columns MRPC and CB follow from Table 2. As in Table 5, some need another row for SAM "
        "than the printed one: RTE 76.46 ± 1.99 (printed 75.74 ± 1.27) and, for all but LoRA's "
        "test, STS-B 90.465 ± 0.155 (90.45 ± 0.12). COPA follows but for Random's and Adapter's "
        "tests. No single row of SAM gives more than seven of the nine tests on WSC, or four of "
        "those on CoLA.",
        tables=(2,),
        tasks=("CoLA", "STS-B", "RTE", "COPA", "WSC"),
        methods=("sam",),
    ),
    Oddity(
        ("Fig. 4",),
        "The points are the ranks of Tables 1 and 2 together, AVG columns included: 160 pairs. "
        "Spearman's coefficient of these is 0.418 (p 3.8e-8). The printed 0.4356 and its p of "
        "1.4e-5 go together for 92 pairs only, and every column has ten: no choice of tables and "
        "columns gives both.",
    ),
    Oddity(
        ("text", "Fig. 5"),
        "The text says that mean and deviation decrease with the density. In the figure the mean "
        "score on the test sets rises first, over all tasks from 74.70 at 0.2 to 76.86 at 0.01: "
        "what decreases is the error.",
        methods=("sam",),
    ),
    Oddity(
        ("text", "Fig. 5"),
        "The list of densities has 0.005 twice. The second is a misprint for 0.05, where the "
        "figure has its point.",
        methods=("sam",),
    ),
    Oddity(
        ("Fig. 5", "Table 1"),
        "At density 0.005 the figure and SAM's row of Table 1 should be the same runs. They are "
        "not on STS-B (90.58 ± 0.17 against 90.59 ± 0.14), RTE (75.33 ± 2.31 against "
        "76.79 ± 1.72), CB (88.04 ± 5.05 against 88.93 ± 1.75), COPA (72.50 ± 4.78 against "
        "74.30 ± 2.45) and WSC (59.13 ± 4.20 against 59.52 ± 3.08).",
        tables=(1,),
        tasks=("STS-B", "RTE", "CB", "COPA", "WSC"),
        methods=("sam",),
    ),
    Oddity(
        ("Fig. 5",),
        "The two panels of the training set have no point at 0.005.",
        methods=("sam",),
    ),
    Oddity(
        ("Fig. 5",),
        "STS-B at density 0.0002 has a deviation of 0 on both sets: that is a single run.",
        tasks=("STS-B",),
        methods=("sam",),
    ),
)


def oddities(frame: Frame) -> tuple[Oddity, ...]:
    """The oddities that concern what a report shows: the tables, tasks and methods beside which
    something is published; none if nothing is."""
    beside = frame.results[frame.results["published_mean"].notna()]
    tables, titles = {*beside["published_table"]}, {*beside["published_title"]}
    keys = {*beside["key"]}
    return tuple(
        item
        for item in ODDITIES
        if tables & {*item.tables} and titles & {*item.tasks} and keys & {*item.methods}
    )
