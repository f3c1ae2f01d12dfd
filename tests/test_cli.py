"""The command line as a user meets it: output, exit codes, errors."""

import dataclasses
import importlib.metadata
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from support.cells import Here, raw_config
from support.processes import write_config
from typer.testing import CliRunner

from jiant_sparse.cli import app, progress
from jiant_sparse.config import load as config_module
from jiant_sparse.errors import NotFinite
from jiant_sparse.grid import grid, lock
from jiant_sparse.grid import worker as work
from jiant_sparse.grid.executors.choose import Choice
from jiant_sparse.host import device, train
from jiant_sparse.schema.control import Control, Stopped
from jiant_sparse.schema.manifest import Manifest

RUN = ["run", "--config", "f.yaml", "--task", "cb", "--method"]


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def config(tmp_path, data_dir, bert_dir):
    """f.yaml in the working directory: cb and rte by bitfit and sam."""
    train = {"max_steps": 2, "eval_every": 1, "batch_size": 4, "max_seq_length": 64}
    methods = {"bitfit": {}, "sam": {"burn_in": 2, "density": 0.01}}
    raw = raw_config(bert_dir, data_dir, train, methods, tasks={"cb": {}, "rte": {}})
    return write_config(tmp_path / "f.yaml", raw)


@pytest.fixture
def here(monkeypatch):
    """All grids run their cells by this."""
    executor = Here()
    monkeypatch.setattr(Choice, "make", lambda self, jobs: (jobs, executor))
    return executor


def training(monkeypatch, error: Exception, before=lambda job: None):
    """All cells end with this error."""

    def fail(job, control, *, verbose):
        before(job)
        raise error

    monkeypatch.setattr(train, "train", fail)


# Grids


def test_grid_then_report_then_nothing_left_to_do(cli, config):
    plan = cli("grid", config, "--dry-run", "--workers", 1)
    assert plan.exit_code == 0, plan.output
    assert plan.stdout.splitlines()[0] == "cb/bitfit/seed-0: missing"
    size = ["time: not measured", "disk: not measured", "4 cells, 4 to run, 1 at a time"]
    assert plan.stdout.splitlines()[4:] == size
    first = cli("grid", config, "--workers", 1)
    assert first.exit_code == 0, first.output
    assert first.stdout == "results/small\n"
    assert first.stderr.splitlines()[:3] == size
    assert "[4/4] rte/sam/seed-0: acc test " in first.stderr
    assert "small: 4 cells, 0 ended before, 4 ended now, 0 failed" in first.stderr
    again = cli("grid", config)
    assert again.stderr == ("small: 4 cells, 4 ended before, 0 ended now, 0 failed\n")
    shown = cli("report", "results/small")
    assert shown.exit_code == 0
    assert "sam" in shown.stdout
    assert "Not comparable: model is " in shown.stdout
    above = cli("report", "results")
    assert above.exit_code == 2
    assert above.stderr.strip() == (
        "error: results: is no benchmark's directory; give one of results/small"
    )
    changed = cli("grid", config, "--set", "train.weight_decay=0.3")
    assert changed.exit_code == 2
    assert "train.weight_decay was 0.01, is 0.3" in changed.stderr


def test_another_grid_gets_there_first(cli, config, monkeypatch):
    class Late(Here):
        def submit(self, job, retry):
            train = job.cell.train.model_copy(update={"weight_decay": 0.3})
            other = dataclasses.replace(job.cell, train=train)
            work.work(dataclasses.replace(job, cell=other))
            return super().submit(job, retry)

    monkeypatch.setattr(Choice, "make", lambda self, jobs: (jobs, Late()))
    other = "was made with other settings: train.weight_decay was 0.3, is 0.01"
    advice = "use another --output-dir or remove it"
    late = cli("grid", config, "--only", "method=bitfit,task=cb")
    assert late.exit_code == 1 and f"record.json: {other}; {advice}" in late.stderr
    last = "small: 1 cells, 0 ended before, 1 ended now, 1 failed"
    assert late.stderr.splitlines()[-1] == last, "--retry-failed would not help"


def test_other_settings_come_before_missing_cells(cli, config, here):
    """The advice for a part of the plan would not help."""
    arguments = ["--only", "method=bitfit"]
    assert cli("grid", config, *arguments, "--set", "train.weight_decay=0.3").exit_code == 0
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"tasks": {"cb": {}}}))
    fewer = cli("grid", config, *arguments)
    assert fewer.exit_code == 2
    assert "other settings: train.weight_decay was 0.3, is 0.01; use another" in fewer.stderr
    fewer = cli("grid", config, *arguments, "--set", "train.weight_decay=0.3")
    assert fewer.exit_code == 2 and "lists 1 cells that were begun" in fewer.stderr


def test_failures_and_stops(cli, config, here, monkeypatch):
    here.said.append(work.Waiting("somebody"))
    monkeypatch.setattr(grid, "LOOK_SECONDS", 0.05)
    rates = "{learning_rate: 1.0e+30, warmup_fraction: 0, max_steps: 9}"
    wild = f"methods.wild={{method: full_tuning, train: {rates}}}"
    arguments = ["grid", config, "--only", "task=cb,method=wild,method=bitfit", "--set", wild]
    first = cli(*arguments)
    assert first.exit_code == 1
    assert first.stdout == "results/small\n"
    lines = first.stderr.splitlines()
    assert lines.count("waiting for somebody") == 1
    assert lines[-2].startswith("cb/wild/seed-0: failed: NotFinite: ")
    assert lines[-1] == (
        "small: 2 cells, 0 ended before, 2 ended now, 1 failed; --retry-failed runs 1 again"
    )
    again = cli(*arguments)
    assert again.exit_code == 1
    assert "small: 2 cells, 2 ended before, 0 ended now, 1 failed; " in again.stderr
    retried = cli(*arguments, "--retry-failed")
    assert "[1/1] cb/wild/seed-0: failed" in retried.stderr
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        here.said.append(number)
        stopped = cli(*arguments, "--retry-failed")
        assert stopped.exit_code == 1
        assert stopped.stderr.splitlines()[2:] == [
            "2 cells, 1 to run, 1 at a time",
            "stopped with 0 of 1 cells ended, 0 have a checkpoint; the same command goes on",
        ]
        assert signal.getsignal(number) == before


def test_failed_cells_of_a_stopped_grid(cli, config, here, monkeypatch):
    """As on a full disk, where no checkpoint can be written."""
    begin = grid._Grid.submit

    def interrupted(self, cell):
        begin(self, cell)
        os.kill(os.getpid(), signal.SIGINT)

    training(monkeypatch, OSError(28, "No space left on device"))
    monkeypatch.setattr(grid._Grid, "submit", interrupted)
    stopped = cli("grid", config, "--only", "task=cb")
    assert stopped.exit_code == 1
    assert stopped.stderr.splitlines()[-1] == (
        "stopped with 1 of 2 cells ended, 0 have a checkpoint; "
        "the same command goes on, with --retry-failed also the 1 that failed"
    )


def test_selected_values_are_shown_and_how_many_cells_a_cluster_runs(cli, config, monkeypatch):
    def chosen(load):
        return lambda *given, **named: dataclasses.replace(
            load(*given, **named), chosen=("methods.sam.burn_in: 2, by search",)
        )

    for name in ("load", "single"):
        monkeypatch.setattr(config_module, name, chosen(getattr(config_module, name)))
    line = "methods.sam.burn_in: 2, by search\n"
    assert line in cli(*RUN, "bitfit", "--dry-run").stdout
    shown = cli("grid", config, "--dry-run", "--executor", "ray", "--address", "a:1").stdout
    assert line in shown
    assert shown.splitlines()[-1] == (
        "4 cells, 4 to run, as many at a time as the cluster holds "
        "(the time above is of one after another)"
    )


def test_the_summary_comes_before_cleaning(cli, config, here, monkeypatch):
    arguments = ["grid", config, "--only", "task=cb,method=bitfit"]
    cli(*arguments)
    monkeypatch.setattr(work, "tidy", lambda job: os.listdir("gone"))
    told = cli(*arguments).stderr
    assert "small: 1 cells, 1 ended before, 0 ended now, 0 failed\nerror: [Errno 2] No " in told


# One run


def test_a_run_that_is_stopped_or_anothers(cli, config, monkeypatch):
    training(monkeypatch, Stopped("stopped by SIGINT; it goes on from step 7"))
    stopped = cli(*RUN, "bitfit")
    assert (stopped.exit_code, stopped.stdout) == (1, "")
    assert stopped.stderr.splitlines()[-1] == (
        "stopped by SIGINT; it goes on from step 7; the same command goes on"
    )
    with lock.acquire(Path("results/small/cb/bitfit/seed-0"), Control()):
        held = cli(*RUN, "bitfit")
    assert held.exit_code == 1
    assert held.stderr.splitlines()[-1].startswith(
        "not run: results/small/cb/bitfit/seed-0: is held by "
    )


@pytest.fixture
def free(cli, data_dir, bert_dir):
    """free(method, ...) runs a cell of no file."""
    arguments = ["run", "--task", "cb", "--model", bert_dir, "--data-dir", data_dir]
    arguments += ["--set", "split=files", "--set", "train.max_seq_length=64"]
    return lambda method, *more: cli(*arguments, "--method", method, *more)


def test_run_prints_the_cell_and_takes_settings(free):
    arguments = ["random", "--seed", 3, "--set", "train.max_steps=2"]
    arguments += ["--set", "methods.random.density=0.1"]
    done = free(*arguments)
    assert done.exit_code == 0, done.output
    line, directory = done.stdout.splitlines()
    assert line.startswith("cb/random/seed-3: acc test ")
    assert directory == "results/run/cb/random/seed-3"
    method = json.loads(Path(directory, "record.json").read_text())["settings"]["method"]
    assert method == {"name": "random", "density": 0.1, "scope": "global", "draw": "exact"}
    assert "done before; nothing was run" in free(*arguments).stderr


def test_run_says_first_what_it_will_do(free, data_dir, bert_dir):
    """Without a length of training: the protocol's 10,000 epochs."""
    weights = sum(t.numel() for t in load_file(bert_dir / "model.safetensors").values())
    tuned = weights * 5 // 1000
    dry = free("sam", "--dry-run")
    assert (dry.exit_code, dry.stderr) == (0, "")
    lines = dry.stdout.splitlines()
    assert lines[:4] == [
        "cell: results/run/cb/sam/seed-0: not run yet",
        f"model: {bert_dir}, pooling pooler",
        f"device: {device.name(device.pick('auto'))}, CPU threads: 1",
        f"data: {data_dir}, split files: cb with 24 train, 10 dev and 12 test rows",
    ]
    assert "600 batches of 16" in dry.stdout
    assert f"{tuned:,} of the encoder's {weights:,} ({100 * tuned / weights:.4f} %)" in dry.stdout
    assert lines[-5:] == [
        "steps: 20,000 of 16 examples, 10,000 epochs",
        "rate: 0.0001 after 2,000 steps of warm-up, then falling to 0",
        "dev: scored every 500 steps; no early stopping",
        "time: not measured",
        "disk: not measured",
    ]
    assert not Path("results").exists()


def test_a_dry_run_says_how_the_cell_stands(cli, config, monkeypatch):
    dry = cli(*RUN, "bitfit", "--dry-run")
    assert cli(*RUN, "bitfit").stderr == dry.stdout
    done = cli(*RUN, "bitfit", "--dry-run").stdout.splitlines()
    assert done[0] == "cell: results/small/cb/bitfit/seed-0: done before, nothing will run"
    assert done[-1] == "nothing to run"

    def checkpoint(job):
        folder = job.directory / "checkpoint"
        folder.mkdir(parents=True)
        (folder / "step-000000001.ab.safetensors").touch()

    for error, before, state in (
        (NotFinite("nan"), lambda job: None, "failed before, runs again"),
        (Stopped("stopped"), checkpoint, "goes on from the checkpoint of step 1"),
    ):
        with monkeypatch.context() as patch:
            training(patch, error, before)
            cli(*RUN, "sam")
        first, *_, time, _ = cli(*RUN, "sam", "--dry-run").stdout.splitlines()
        assert first == f"cell: results/small/cb/sam/seed-0: {state}"
        assert time.startswith("time: about ")
        assert time.endswith(" s (1 cell by records of other tasks and methods)")


def test_progress_changes_no_byte_of_the_results(cli, config, monkeypatch):
    for name in ("POLL_SECONDS", "LINE_SECONDS", "FIRST_SECONDS"):
        monkeypatch.setattr(progress, name, 1e-4)
    arguments = [*RUN, "sam", "--set", "methods.sam.burn_in=20"]
    told = cli(*arguments)
    assert "selecting, batch " in told.stderr
    assert "training, step 1 of 2" in told.stderr
    monkeypatch.setattr(progress, "POLL_SECONDS", 60)
    silent = cli(*arguments, "--output-dir", "silent")
    assert "selecting, batch " not in silent.stderr
    for name in ("delta.safetensors", "log.jsonl"):
        a, b = (Path(out, "small/cb/sam/seed-0", name) for out in ("results", "silent"))
        assert a.read_bytes() == b.read_bytes()


# Deltas, data, methods


def test_delta_commands(cli, config, bert_dir):
    for method in ("bitfit", "sam"):
        assert cli(*RUN, method).exit_code == 0
    a, b = (f"results/small/cb/{m}/seed-0/delta.safetensors" for m in ("bitfit", "sam"))
    shown = cli("delta", "inspect", a)
    assert "method: bitfit" in shown.stdout
    assert "head.dense.weight: 16x16" in shown.stdout
    rows = cli("delta", "diff", a, b).stdout.splitlines()
    assert rows[0].split("\t") == ["only_a", "only_b", "both", "equal", "max_difference", "tensor"]
    assert any(row.endswith("pooler.dense.bias") for row in rows)
    assert cli("delta", "apply", a, "--model", bert_dir, "--output-dir", "tuned").exit_code == 0
    refused = cli("delta", "apply", a, "--model", bert_dir, "--output-dir", "tuned")
    assert refused.exit_code == 2
    assert "error: tuned: exists already" in refused.stderr
    assert cli("delta", "round", a, "small", "--values", "bfloat16").stdout == "small\n"
    assert cli("delta", "inspect", "small").stdout.startswith("values: bfloat16")
    for arguments, error in (
        ([a, "small", "--values", "bfloat16"], "error: small: exists already; give a new file"),
        (["small", "more", "--values", "bfloat16"], "error: small: "),
        ([a, "more", "--values", "int8"], f"error: {a}: "),
    ):
        refused = cli("delta", "round", *arguments)
        assert refused.exit_code == 2 and error in refused.stderr


def test_data_commands(cli):
    assert cli("data", "synthesize", "--data-dir", "d", "--tasks", "cb,rte").exit_code == 0
    fine = cli("data", "verify", "d")
    assert fine.exit_code == 0
    assert "cb/train: 320 rows" in fine.stdout
    parted = cli("data", "split", "d", "e", "--split", "random", "--seed", 1)
    assert parted.exit_code == 0, parted.output
    assert "cb/train: 342 rows" in cli("data", "verify", "e").stdout
    for kind in ("files", "dev_as_test"):
        refused = cli("data", "split", "d", "f", "--split", kind)
        assert refused.exit_code == 2
        assert f"error: split is '{kind}', which a configuration may say of" in refused.stderr
        assert "it must be published or random" in refused.stderr
        assert not Path("f").exists()
    with open("d/cb/val.jsonl", "a") as stream:
        stream.write("{}\n")
    spoiled = cli("data", "verify", "d")
    assert spoiled.exit_code == 2
    assert "d/cb/val.jsonl:65: " in spoiled.stderr
    offline = cli("data", "fetch", "--data-dir", "g", "--tasks", "cb")
    assert offline.exit_code == 2
    assert "error: task cb: aps/super_glue (cb) cannot be loaded" in offline.stderr


def test_check_and_methods(cli, config):
    assert cli("check", config).stdout == f"{config}: ok, 4 cells\n"
    protocol = Path(__file__).parent.parent / "run_configs/fu2023/protocol.yaml"
    assert cli("check", protocol).stdout == f"{protocol}: ok, to be included\n"
    wrong = Path("wrong.yaml")
    wrong.write_text("train: {batch_size: 0}\n")
    both = cli("check", config, wrong)
    assert both.exit_code == 2
    assert "error: wrong.yaml: train.batch_size: is 0" in both.stderr
    listed = cli("methods").stdout
    assert "sam\n  SAM: the weights of largest squared gradient" in listed
    assert "  SAM (approximation), Fu et al. 2023, arXiv 2211.15583\n" in listed
    assert "    density: 0.005; a number in (0, 1]\n" in listed


def test_methods_counts_for_a_model_beside_the_paper(cli, config):
    def counted(old: str, new: str):
        Path("changed.yaml").write_text(config.read_text().replace(old, new))
        return cli("methods", "--model", "roberta-base-config", "--config", "changed.yaml")

    rows = [line.split() for line in counted("", "").stdout.splitlines()]
    assert rows[1:3] == [
        ["bitfit", "102,912", "0", "0.0826", "0.09"],
        ["sam", "1,246,456", "0", "1.0000", "0.5"],
    ]
    shown = counted("density: 0.01", "density: {cb: 0.01, rte: 0.1}").stdout
    assert [line.split()[:3] for line in shown.splitlines()[2:]] == [
        ["sam", "(cb)", "1,246,456"],
        ["sam", "(rte)", "12,464,563"],
    ]
    assert "in one step" not in shown
    shown = counted("bitfit: {}", "top_tuning: {}").stdout
    assert shown.splitlines()[1].split() == ["top_tuning", "102,912", "0", "0.0826", "-"]
    assert shown.endswith("\nCounted in one step; every step selects anew: top_tuning.\n")
    failed = counted("bitfit: {}", "lora: {rank: 800}")
    assert failed.exit_code == 2
    assert "error: methods.lora: rank is 800; encoder.layer.0" in failed.stderr
    alone = cli("methods", "--config", config)
    assert alone.exit_code == 2
    assert "needs --model" in alone.stderr


# Bad input

FREE = ["run", "--task", "cb", "--model", "m", "--data-dir", "d"]
BAD = [
    ([*FREE, "--task", "cbb", "--method", "sam"], "'cbb'"),
    ([*FREE, "--method", "sma"], "mean sam"),
    (["run", "--task", "cb", "--method", "sam", "--data-dir", "d"], "model: is missing"),
    (["check", "nowhere.yaml", "elsewhere.yaml"], "error: elsewhere.yaml: cannot be read"),
    (["data", "verify", "nowhere"], "nowhere: holds no folder of a known task"),
    (["delta", "inspect", "f.yaml"], "f.yaml"),
    (["grid", "f.yaml", "--only", "task=nli"], "--only task=nli: there is no such task; known: cb"),
    (["grid", "f.yaml", "--executor", "slurm"], "--executor is slurm; allowed are local, ray"),
    (["grid", "f.yaml", "--gpus-per-cell", "0.5"], "torch sees no CUDA device here"),
    (["grid", "f.yaml", "--model", "/no/such"], "there is no such directory"),
    (["grid", "f.yaml", "--set", "device=tpu"], "device: is 'tpu'; it should be 'auto', 'cpu'"),
    (
        [*RUN, "sam", "--set", "device=cuda"],
        "device is cuda, but torch sees no CUDA device; allowed here: auto, cpu",
    ),
    (
        ["grid", "f.yaml", "--data-dir", "nowhere"],
        "nowhere/cb: there is no such folder for task cb",
    ),
    (
        ["grid", "f.yaml", "--set", "methods.diff_pruning.burn_in=90"],
        "methods.diff_pruning: diff_pruning can be scored after step 90 for the first time, "
        "and at none of the run's evaluations (every",
    ),
    (
        ["run", "--task", "cb", "--method", "dps_dense", "--config", "epochs.yaml"],
        "dps_dense with these fields needs 51 steps; the run has 12",
    ),
    ([*RUN, "sam", "--log", "board"], "--log is board; it must be tensorboard"),
    (["methods", "--model", "roberta-bass-config"], "roberta-bass-config: is no local directory"),
    *(
        ([*command, "--seed=010"], "the seed is ")
        for command in (
            [*RUN, "sam"],
            ["data", "synthesize"],
            ["data", "fetch"],
            ["data", "split", "a", "b"],
        )
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), BAD)
def test_bad_input_is_a_line_and_exit_code_2(
    cli, config, tmp_path, monkeypatch, arguments, expected
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    epochs = config.read_text().replace("max_steps", "max_epochs").replace("bitfit", "dps_dense")
    Path("epochs.yaml").write_text(epochs)
    before = sorted(tmp_path.rglob("*"))
    result = cli(*arguments)
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert any(line.startswith("error: ") and expected in line for line in lines), result.stderr
    if arguments[0] == "run":
        dry = cli(*arguments, "--dry-run")
        assert (dry.exit_code, dry.output) == (result.exit_code, result.output)
    assert sorted(tmp_path.rglob("*")) == before


PLACES = {
    "f.yaml": "f.yaml: is not a directory",
    "f.yaml/x": "f.yaml/x: cannot be made: f.yaml is not a directory",
}
NOWHERE = dict.fromkeys(("f.yaml/x", "dangling"))
USED = {
    "run --task cb --method bitfit --config f.yaml --output-dir": PLACES,
    "grid f.yaml --output-dir": PLACES,
    "grid f.yaml --dry-run --output-dir": PLACES,
    "data synthesize --tasks cb --data-dir": PLACES,
    "data fetch --tasks cb --data-dir": PLACES,
    "data split good": PLACES,
    "report results --output-dir": PLACES,
    "run --task cb --method bitfit --config": NOWHERE,
    "grid": NOWHERE,
    "methods --model roberta-base-config --config": NOWHERE,
    "status": NOWHERE,
    "report": NOWHERE,
    "report --compare good": NOWHERE,
    "data verify --tasks cb": NOWHERE,
    "data split --tasks cb {} new": NOWHERE,
}


@pytest.mark.parametrize("command", USED)
def test_places_that_cannot_be_used(cli, config, tmp_path, command):
    """They are a line and exit code 2, and nothing is written. None: the place is named."""
    Path("dangling").symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    for place, expected in USED[command].items():
        words = command if "{}" in command else command + " {}"
        result = cli(*words.format(place).split())
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("error: ")
        # "nowhere" is where the link leads.
        assert (expected or place) in result.stderr or "nowhere/cb" in result.stderr
        assert sorted(tmp_path.rglob("*")) == before


def test_a_file_in_the_place_of_a_cell(cli, config):
    Path("results/small").mkdir(parents=True)
    Path("results/small/cb").touch()
    for command in (["grid", config], [*RUN, "bitfit"]):
        result = cli(*command)
        assert result.exit_code == 2, result.output
        assert "seed-0: cannot be made: results/small/cb is not a directory" in result.stderr
        assert [path.name for path in Path("results/small").iterdir()] == ["cb"]


def test_many_problems_are_cut(cli):
    many = cli("check", *(f"{number}.yaml" for number in range(203)))
    assert (many.exit_code, len(many.stderr.splitlines())) == (2, 201)
    assert many.stderr.endswith("\nerror: and 3 more\n")


# Streams and start


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_do_not_load_torch(option):
    code = (
        "import sys; from jiant_sparse.cli import main\n"
        "try: main()\nexcept SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True)
    *told, loaded = done.stdout.splitlines()
    assert loaded == "False", done
    version = importlib.metadata.version("jiant-sparse")
    assert option == "--help" or told == [f"jiant-sparse {version}"]


def test_a_narrow_terminal_shows_options_whole(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    shown = cli("grid", "--help").stdout
    for option in ("--gpus-per-cell", "--output-dir", "--retry-failed"):
        assert option in shown
    wrong = cli("run", "--task", "cb", "--method", "sam", "--datadir", "d")
    assert wrong.exit_code == 2
    assert wrong.stderr.splitlines()[-1].startswith("Error: No such option: --datadir")


def shell(command: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a bash command in which $CLI is ours; of a pipe, $CLI's."""
    program = f"{sys.executable} -m jiant_sparse"
    variables = {"CLI": program, "PYTHONPATH": os.pathsep.join(sys.path)} | environment
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_streams_that_fail(tmp_path):
    Manifest(benchmark="b", tasks=[], methods=[], cells=[]).write(tmp_path)
    assert shell(f"$CLI status {tmp_path} | true") == (1, "", ""), "a closed pipe: not a word"
    error = "error: [Errno 28] No space left on device\n"
    assert shell(f"$CLI status {tmp_path} > /dev/full") == (1, "", error)
    assert shell(f"$CLI status {tmp_path} >&- 2>&- <&-")[0] == 0


def test_closed_streams_are_the_null_device(tmp_path):
    """Else a file that is opened would have the number of stdout, and get what is printed there."""
    code = (
        "import os; from jiant_sparse.cli.shared import open_streams; open_streams()\n"
        "with open('f', 'w') as f: os.write(1, b'x'); os.system('echo x; echo x >&2'); print('x')\n"
        "assert os.path.getsize('f') == 0"
    )
    for streams in (">&-", "<&- >&- 2>&-"):
        done = shell(f"cd {tmp_path}; {sys.executable} -c {shlex.quote(code)} {streams}")
        assert done[0] == 0, done


def test_what_stdout_cannot_encode_is_escaped():
    code = "from jiant_sparse.cli.shared import open_streams; open_streams(); print('a\u2013b')"
    done = shell(f"{sys.executable} -c {shlex.quote(code)}", PYTHONIOENCODING="ascii")
    assert done[:2] == (0, "a\\u2013b\n"), done
