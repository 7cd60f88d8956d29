"""Tables as LaTeX: whatever is in a name, it is printed and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.reports.aggregate import aggregate
from fedunlearn.reports.benchmark_latex import escape, latex

ESCAPED = re.compile(
    r"\\textbackslash\{\}|\\textasciitilde\{\}|\\textasciicircum\{\}|\\textless\{\}|\\textgreater\{\}|\\textbar\{\}"
    r"|\\ldots\{\}|\$\\pm\$|\$\\times\$|\$-\$|\\[&%$#_{}]"
)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"])))
def test_nothing_special_is_left_once_what_was_escaped_is_taken_away(text: str) -> None:
    assert not set(ESCAPED.sub("", escape(text))) & set("\\&%$#_{}~^<>|\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("94.1% ± 0.3", r"94.1\% $\pm$ 0.3"),
        ("a_b & c", r"a\_b \& c"),
        (r"\x{1}", r"\textbackslash{}x\{1\}"),
        ("− × –", r"$-$ $\times$ --"),
        ("plain", "plain"),
    ],
)
def test_text_is_escaped_once(text: str, expected: str) -> None:
    assert escape(text) == expected


@pytest.fixture
def documents(document: dict[str, Any]) -> list[dict[str, Any]]:
    document["models"]["50% & _more_"] = document["models"]["random-channels"]
    second = json.loads(json.dumps(document))
    second["models"]["unlearned"]["test_accuracy"] -= 0.02
    return [{"cell": "ten_10", "seed": 0, **document}, {"cell": "ten_10", "seed": 1, **second}]


def test_every_model_has_a_row_of_as_many_cells_as_there_are_heads(documents: list[dict[str, Any]]) -> None:
    (cell,) = aggregate(documents)
    text = latex("a_b", "Does it\nforget?", [cell])
    assert text.startswith("% a_b: Does it forget?\n")
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + len(cell.models)
    cells = [len(re.findall(r"(?<!\\)&", line)) for line in lines]
    assert len(set(cells)) == 1
    columns = re.search(r"\\begin\{tabular\}\{l(r+)\}", text)
    assert columns is not None and len(columns[1]) == cells[0]
    assert r"50\% \&" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert r"\textbf{" in text and r"ten\_10" in text


def test_what_makes_a_table_wide_or_a_sentence_odd_is_left_out(documents: list[dict[str, Any]]) -> None:
    for one in documents:
        one["models"]["unlearned"]["cost"]["bytes_up"] += 1000 * one["seed"]
        entry = {"method": "m", "kind": "federated", "settings": {}, "cannot": "it cannot."}
        budget = {"of": "bytes", "own_rounds": False, "allowed": None, "spent": None, "rounds": None, "over": False}
        one["methods"] = {"first": {**entry, "budget": budget}, "second": {**entry, "budget": budget}}
    text = latex("a_b", "", aggregate(documents))
    (row,) = [line for line in text.splitlines() if line.startswith("Unlearned &")]
    *_, sent, received = row.removesuffix(r" \\").split(" & ")
    assert r"\pm" in row and r"\pm" not in sent + received and sent.endswith("kB")
    assert "Cannot serve this request: First: it cannot; Second: it cannot." in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex here")
def test_it_compiles(documents: list[dict[str, Any]], tmp_path: Path) -> None:
    text = latex("a_b", "", aggregate(documents))
    page = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n" + text + "\\end{document}\n"
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
