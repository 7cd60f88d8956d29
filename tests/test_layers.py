"""Who may know whom: every import statement of the package, read without running it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import fedunlearn

REPOSITORY = Path(__file__).parents[1]
PACKAGE = Path(fedunlearn.__file__).parent

BASE = {"errors", "registry", "config", "randomness", "progress", "files", "announcement"}
BASE |= {"canonical", "key_files", "ledger_head"}
LEARNING = {"data", "models", "channels", "tasks"}
# Base as well, but of Flower's arrays and messages: only who may know Flower imports it.
FLOWER_BASE = {"flower_arrays", "flower_messages"}
SIDES = {"audit", "strategies"} | LEARNING | BASE | FLOWER_BASE
TOP = {
    "clients",
    "server",
    "engines",
    "reports",
    "federation",
    "accountable",
    "open_run",
    "requesting",
    "comparison",
    "summaries",
    "ledger_views",
    "pooled_audit",
    "experiment",
    "benchmark_cell",
    "benchmark",
    "demo",
    "catalogue",
    "plugins",
    "auditing",
    "local_clients",
    "shadows",
    "contest",
    "reporting",
    "self_test",
} | SIDES

# For each part of the package (a folder, or a module that stands alone) what it may import of the others.
MAY_KNOW = {
    "errors": set[str](),
    "registry": BASE,
    "config": BASE,
    "randomness": BASE,
    "progress": BASE,
    "files": BASE,
    "announcement": BASE,
    "canonical": BASE,
    "key_files": BASE,
    "ledger_head": BASE,
    "flower_arrays": BASE,
    "flower_messages": BASE,
    "data": BASE,
    "models": BASE,
    "channels": BASE,
    "tasks": LEARNING | BASE,
    "audit": LEARNING | BASE,
    "strategies": {"audit"} | LEARNING | BASE | FLOWER_BASE,
    "clients": SIDES,
    "server": SIDES,
    "engines": {"errors"} | FLOWER_BASE,
    "reports": {"audit"} | BASE,
    "catalogue": SIDES,
    "plugins": SIDES,
    "pooled_audit": {"clients", "server"} | SIDES,
    "requesting": {"clients", "server"} | SIDES,
    "summaries": {"server"} | SIDES,
    "ledger_views": {"server"} | SIDES,
    "comparison": {"clients", "server", "reports", "pooled_audit"} | SIDES,
    "reporting": {"server", "reports"} | SIDES,
    "local_clients": {"clients", "server", "engines", "plugins"} | SIDES,
    "shadows": {"clients", "server", "engines", "plugins", "local_clients"} | SIDES,
    "auditing": {"server", "engines", "reports", "plugins", "local_clients", "shadows"} | SIDES,
    "open_run": {"clients", "server", "engines", "plugins", "requesting"} | SIDES,
    "accountable": {"server", "open_run", "auditing"} | SIDES,
    "federation": TOP - {"experiment", "benchmark", "benchmark_cell", "contest", "demo", "catalogue", "self_test"},
    "self_test": TOP - {"demo", "catalogue"},
    "contest": {"federation", "server", "reports"} | SIDES,
    "experiment": {"contest"} | SIDES,
    "benchmark_cell": TOP - {"benchmark", "demo", "catalogue", "self_test"},
    "benchmark": TOP - {"demo", "catalogue"},
    "demo": TOP - {"benchmark", "benchmark_cell", "catalogue"},
    "cli": TOP,
    "__init__": TOP,
}
WITHOUT_FLOWER = {"data", "models", "channels", "tasks", "audit", "reports"} | BASE
FLOWER_PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.simulation"}
LINKS = {"clients", "server", "strategies"}
LIGHT_MODULES = [
    "__init__",
    "cli",
    "cli_arguments",
    "cli_audit",
    "cli_certificate",
    "cli_erase",
    "cli_ledger",
    "cli_output",
    "cli_simulate",
    "cli_status",
    "config",
    "errors",
    "progress",
]
LIGHT_MODULES += ["registry", "randomness", "catalogue"]
LIGHT = {"click", "fedunlearn", "pydantic", "typer"}


@dataclass(frozen=True)
class Import:
    """One imported module, where it is imported, and whether as soon as the file is."""

    file: Path
    line: int
    module: str
    at_once: bool

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line} imports {self.module}"


def imports(file: Path) -> Iterator[Import]:
    """Every import of `file`, inside functions too; relative ones as "." and their text."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    deferred = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or _is_for_types(node)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        at_once = id(node) not in deferred
        for module in _modules(node):
            yield Import(file, node.lineno, module, at_once)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        # `from fedunlearn import federation` imports a module as much as the dotted form does.
        return [f"{module}.{alias.name}" for alias in node.names] if module == "fedunlearn" else [module]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        return [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return []


def part_of(file: Path, package: Path) -> str:
    """The part of the package that `file` belongs to: its folder, or its own name."""
    first = file.relative_to(package).parts[0].removesuffix(".py")
    return "cli" if first.startswith("cli_") else first


def upward_imports(package: Path) -> list[str]:
    """Imports of parts that a part must not know."""
    wrong = []
    for file in sorted(package.rglob("*.py")):
        part = part_of(file, package)
        if part not in MAY_KNOW:
            wrong.append(f"{part} has no place among the layers yet; give it one in MAY_KNOW")
            continue
        for found in imports(file):
            root, _, rest = found.module.partition(".")
            known = rest.partition(".")[0]
            if root == "fedunlearn" and known in MAY_KNOW and known not in MAY_KNOW[part] | {part}:
                wrong.append(f"{part} must not know {known}: {found}")
    return wrong


def flower_imports(package: Path) -> list[str]:
    """Imports of Flower where it must not be known, and of its private parts outside their one module."""
    wrong = []
    for file in sorted(package.rglob("*.py")):
        for found in imports(file):
            if found.module.split(".")[0] != "flwr":
                continue
            if part_of(file, package) in WITHOUT_FLOWER:
                wrong.append(f"{part_of(file, package)} must not know Flower: {found}")
            private = ".".join(found.module.split(".")[:2]) not in FLOWER_PUBLIC
            if private and file.name != "flower_compat.py":
                wrong.append(f"private imports of Flower belong in engines/flower_compat.py: {found}")
    return wrong


def imports_through_links(files: list[Path]) -> list[str]:
    """Imports of the packages by the names of the links at the top, which would load a second copy."""
    return [str(found) for file in files for found in imports(file) if found.module.split(".")[0] in LINKS]


def relative_imports(files: list[Path]) -> list[str]:
    return [str(found) for file in files for found in imports(file) if found.module.startswith(".")]


def python_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (REPOSITORY / folder).rglob("*.py"))


def test_nothing_imports_upwards() -> None:
    assert upward_imports(PACKAGE) == []


def test_flower_stays_where_it_belongs() -> None:
    assert flower_imports(PACKAGE) == []


def test_nothing_is_imported_through_the_links() -> None:
    files = python_files("fedunlearn", "tests", "docs", "experiments", "benchmarks")
    assert len(files) > 10
    assert imports_through_links(files) == []


def test_imports_are_absolute() -> None:
    assert relative_imports(python_files("fedunlearn", "tests")) == []


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_what_every_command_imports_is_light(module: str) -> None:
    third_party = {found.module.split(".")[0] for found in imports(PACKAGE / f"{module}.py") if found.at_once} - set(
        sys.stdlib_module_names
    )
    assert third_party <= LIGHT


@pytest.mark.parametrize("link", sorted(LINKS))
def test_the_top_of_the_repository_links_to_the_package(link: str) -> None:
    path = REPOSITORY / link
    assert path.is_symlink()
    assert path.readlink() == Path("fedunlearn") / link


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("tasks/one.py", "from fedunlearn.strategies.method import Method", "tasks must not know strategies"),
        ("clients/one.py", "def f():\n    import fedunlearn.server.app", "clients must not know server"),
        ("engines/one.py", "from fedunlearn import tasks", "engines must not know tasks"),
        (
            "reports/one.py",
            "from fedunlearn.federation import Federation",
            "reports must not know federation",
        ),
        ("new_room/one.py", "", "new_room has no place"),
    ],
)
def test_an_upward_import_is_found(tmp_path: Path, file: str, text: str, complaint: str) -> None:
    _write(tmp_path / file, text)
    assert [found for found in upward_imports(tmp_path) if found.startswith(complaint)]


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("channels/one.py", "import flwr", "channels must not know Flower"),
        ("server/one.py", "from flwr.common.constant import X", "private imports"),
        ("engines/local.py", "import flwr.supercore.task", "private imports"),
    ],
)
def test_flower_in_the_wrong_place_is_found(tmp_path: Path, file: str, text: str, complaint: str) -> None:
    _write(tmp_path / file, text)
    assert [found for found in flower_imports(tmp_path) if found.startswith(complaint)]


@pytest.mark.parametrize(
    "text", ["import clients", "from server.ledger import Ledger", "import_module('strategies.method')"]
)
def test_an_import_through_a_link_is_found(tmp_path: Path, text: str) -> None:
    _write(tmp_path / "one.py", text)
    assert imports_through_links([tmp_path / "one.py"])


def test_imports_of_what_may_be_known_are_left_alone(tmp_path: Path) -> None:
    _write(
        tmp_path / "strategies/one.py",
        "from fedunlearn.channels.mask import ChannelMask\nfrom flwr.app import Message",
    )
    _write(tmp_path / "engines/flower_compat.py", "from flwr.common.constant import X")
    assert upward_imports(tmp_path) == []
    assert flower_imports(tmp_path) == []


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
