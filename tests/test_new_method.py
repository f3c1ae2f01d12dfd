"""A method in one new file, and nothing else: it runs, and a report knows it by its title."""

import pytest
from support.methods import configure, method_file
from typer.testing import CliRunner

from jiant_sparse.cli import app
from jiant_sparse.errors import InputError
from jiant_sparse.host.train import train
from jiant_sparse.methods import fields
from jiant_sparse.report import build
from jiant_sparse.schema import record

TEXT = """
from dataclasses import dataclass
from typing import Literal

from jiant_sparse.methods.base import Method
from jiant_sparse.methods.fields import Density
from jiant_sparse.sparse import surgery


@dataclass
class LargestBias(Method):
    title = "Largest <Bias>"
    paper = "Doe et al. 2026, arXiv 2601.00000"
    category = "rule-based"
    readings = {"order": ("largest", "smallest")}

    density: Density = 0.01
    order: Literal["largest", "smallest"] = "largest"

    def choose(self, model, probe, rng):
        sign = 1 if self.order == "largest" else -1
        scores = {n: (sign * w.detach().abs() + 9) for n, w in surgery.eligible(model).items()}
        return self.most_important(scores, self.density)
"""


def test_a_new_method_is_one_file(tmp_path, make_job):
    with method_file(tmp_path, "largest_bias", TEXT):
        settings = {"max_steps": 2, "eval_every": 1}
        job = make_job("cb", "mine", {"method": "largest_bias", "order": "smallest"}, settings)
        train(job)
    # A report needs the records alone: the file is gone.
    found = record.read(job.directory / record.FILE_NAME)
    facts = found.method.model_dump()
    assert (facts["title"], facts["category"]) == ("Largest <Bias>", "rule-based")
    assert facts["reading"] == "mixed"
    assert {"field": "order", "value": "smallest", "reading": "released program"} in facts[
        "differences"
    ]
    page = build(tmp_path / "out" / "b").page.read_text()
    assert "mine: Largest &lt;Bias&gt; (Doe et al. 2026, arXiv 2601.00000)" in page
    assert "released program: order is smallest" in page


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("untitled", 'title = "Largest <Bias>"', "", "lacks title"),
        ("nowhere", "paper =", "category = ", "lacks paper"),
        ("typo_category", '"rule-based"', '"ruled-based"', "has category 'ruled-based'; did"),
        ("typo_readings", '{"order"', '{"ordre"', "names 'ordre' in readings, which is no field; "),
        ("typo_open", "readings = ", 'left_open = ("ordre",)\n    _ = ', "names 'ordre' in left"),
        ("undecorated", "@dataclass\n", "", "is no dataclass; decorate it with @dataclass"),
    ],
)
def test_mistakes_of_a_declaration_are_refused(tmp_path, name, old, new, message):
    assert TEXT.count(old) == 1
    with pytest.raises(InputError) as caught, method_file(tmp_path, name, TEXT.replace(old, new)):
        pass
    assert str(caught.value).startswith(f"{tmp_path}/{name}.py: LargestBias {message}")


BARE = """
from jiant_sparse.methods.base import Method


class Bare(Method):
    title = "Bare"
    paper = "Doe et al. 2026, arXiv 2601.00000"
    category = "reference"
"""


def test_a_method_without_fields_needs_no_decorator(tmp_path):
    with method_file(tmp_path, "bare", BARE) as kind:
        assert fields.values(kind()) == {} == fields.later_defaults(kind)


def test_readings_name_fields_of_the_training(tmp_path):
    more = '{"train.freez_head": (0, 0), "train.optimizer": (0, 0), "order":'
    text = TEXT.replace('{"order":', more)
    with method_file(tmp_path, "typo_train", text), pytest.raises(InputError) as caught:
        configure("typo_train", {})
    (told,) = caught.value.problems
    start = "f.yaml: methods.typo_train: readings of typo_train name train.freez_head; did you mean"
    assert told.startswith(f"{start} train.freeze_head?")


def cli(*arguments: str) -> str:
    return CliRunner().invoke(app, arguments).stdout


def test_a_field_without_a_default_is_required(tmp_path, bert_dir):
    text = TEXT.replace("density: Density = 0.01", "density: Density")
    with method_file(tmp_path, "demanding", text):
        with pytest.raises(InputError) as caught:
            configure("demanding", {})
        assert str(caught.value) == "f.yaml: methods.demanding.density: is missing"
        (cell,) = configure("demanding", {"density": 1}).cells
        assert cell.make_method().density == 1.0
        assert "\n    density: required; a number in (0, 1]\n" in cli("methods")
        counted = cli("methods", "--model", str(bert_dir))
    assert counted.endswith("\ndemanding is not counted: it needs density; give a --config.\n")
