"""The house itself: imports point down, rooms keep to their job, a newcomer reads it in an hour."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

from jiant_sparse.methods import base

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jiant_sparse"
# Room -> the lines that it may have at most, and the rooms that it may import, besides itself and
# the ground. A number with a comment is still too large: the comment is the design's.
ROOMS = {
    "ground": (400, set()),  # 250
    "sparse": (3650, set()),  # 2,700
    "methods": (2300, {"sparse"}),
    "tuning": (2125, {"sparse", "methods"}),  # 900
    "data": (1900, set()),
    "schema": (800, {"methods", "data"}),  # 550
    "config": (1300, {"schema", "methods", "data"}),  # 900
    "host": (3340, {"schema", "methods", "sparse", "data"}),  # 2,600
    "grid": (2350, {"config", "host", "schema", "data"}),  # 1,400
    "report": (6300, {"schema", "data"}),  # 3,300
    "bench": (1620, {"host", "schema", "methods", "sparse", "data"}),  # 1,100
    "cli": (
        1480,  # 900
        {"grid", "config", "report", "bench", "host", "schema", "methods", "sparse", "data"},
    ),
}
TESTS = 27_800  # 15,000
# Lines of README and the files that it lists for a newcomer's hour.
HOUR = 2450
GROUND = ("__init__", "errors", "files", "layout", "seeds", "units", "__version__")


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its name below `jiant_sparse`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    del found["__init__"]
    return found


def imports(tree: ast.Module) -> set[str]:
    """Every module that is imported, inside functions too; `from a import b` gives a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(name: str) -> str:
    first = name.split(".")[0]
    return "ground" if first in GROUND else "cli" if first == "__main__" else first


def inner(names: set[str]) -> set[str]:
    return {
        name.removeprefix("jiant_sparse.") for name in names if name.startswith("jiant_sparse.")
    }


def test_imports_point_down():
    for name, tree in modules().items():
        allowed = ROOMS[room(name)][1] | {room(name), "ground"}
        for target in inner(imports(tree)):
            assert room(target) in allowed, f"{name} imports {target}, which is above it"


def test_rooms_are_on_floors():
    floors: dict[str, int] = {}
    for name, (_, below) in ROOMS.items():
        # A room whose imports are not yet placed would close a circle.
        floors[name] = 1 + max((floors[other] for other in below), default=0)


def lines(folder: Path) -> Counter[str]:
    """Lines of the Python files below `folder`, by the first part of their place."""
    found: Counter[str] = Counter()
    for path in folder.rglob("*.py"):
        first, *_ = path.relative_to(folder).with_suffix("").parts
        found[first] += len(path.read_text(encoding="utf-8").splitlines())
    return found


def test_no_room_grows():
    found: Counter[str] = Counter()
    for name, count in lines(PACKAGE).items():
        found[room(name)] += count
    assert {name: count for name, count in found.items() if count > ROOMS[name][0]} == {}
    assert lines(ROOT / "tests").total() <= TESTS


def test_only_host_imports_jiant():
    for name, tree in modules().items():
        if not name.startswith("host"):
            assert not {i for i in imports(tree) if i.split(".")[0] == "jiant"}, name


def test_only_sparse_edits_module_trees():
    for name, tree in modules().items():
        if name.startswith("sparse"):
            continue
        assert not {i for i in imports(tree) if i.startswith("torch.nn.utils.parametriz")}, name
        calls = {
            node.func.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        edits = {"requires_grad_", "register_parametrization", "add_module", "register_parameter"}
        assert not calls & edits, name


def test_report_reads_records_and_published_numbers_only():
    allowed = (
        "schema.record",
        "schema.manifest",
        "data.tasks",
        "errors",
        "files",
        "units",
        "report",
    )
    for name, tree in modules().items():
        if name.startswith("report"):
            for target in inner(imports(tree)):
                assert target.startswith(allowed), f"{name} imports {target}"
            assert not {i for i in imports(tree) if i.split(".")[0] in ("torch", "transformers")}


def test_sparse_and_methods_know_nothing_of_transformers():
    for name, tree in modules().items():
        foreign = {"sparse": {"transformers", "pydantic"}, "methods": {"transformers"}}
        assert not {i.split(".")[0] for i in imports(tree)} & foreign.get(room(name), set()), name


def test_one_method_per_file():
    for path in (PACKAGE / "methods").glob("*.py"):
        classes = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef)]
        if path.stem not in ("__init__", *base.SHARED):
            assert len(classes) == 1, path


def test_the_code_can_be_read_in_an_hour():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    path = readme.partition("## Read the code in an hour")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| \[(.+?)\]\((.+?)\) \|", path, re.MULTILINE)
    assert len(listed) == 12 and all(shown == link for shown, link in listed)
    texts = [readme, *((ROOT / link).read_text(encoding="utf-8") for _, link in listed)]
    assert sum(len(text.splitlines()) for text in texts) <= HOUR
    assert len(readme.splitlines()) <= 150


def test_links_of_pages_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_nothing_pickled_is_read_and_nothing_is_evaluated():
    for name, tree in modules().items():
        assert not {i for i in imports(tree) if i.split(".")[0] in ("pickle", "dill")}, name
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("torch.load", "yaml.load", "eval", "exec"), (name, called)
