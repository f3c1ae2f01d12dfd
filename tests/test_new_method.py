"""A method in one new file, and nothing else: it runs, and a report knows it by its title."""

import pytest
from support.methods import method_file

from jiant_sparse.errors import InputError
from jiant_sparse.host.train import train
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


@pytest.mark.parametrize("part", ["title", "paper", "category"])
def test_a_file_without_what_a_report_needs_is_refused(tmp_path, part):
    text = "".join(line for line in TEXT.splitlines(True) if not line.startswith(f"    {part} ="))
    with (
        pytest.raises(InputError, match=f"lacking_{part}.py: LargestBias lacks {part}$"),
        method_file(tmp_path, f"lacking_{part}", text),
    ):
        pass
