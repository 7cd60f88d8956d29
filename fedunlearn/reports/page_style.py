"""Style and script of the report page: light, dark, on paper, on a phone; nothing comes from outside."""

from __future__ import annotations

from html import escape

CSS = """
:root { --page: #ffffff; --card: #f5f6f8; --text: #1c1e21; --muted: #5c6370; --line: #d8dbe0;
  --ours: #fdf0e6; --good: #00694d; --fair: #8a5a00; --bad: #a4340a; --link: #0060a0;
  color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --page: #16181c; --card: #20242a; --text: #e8eaed;
  --muted: #a3abb8; --line: #3a4049; --ours: #3a2a1c; --good: #5fd3ae; --fair: #f0bb55; --bad: #ff9a6b;
  --link: #7cc4ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1rem 4rem; background: var(--page);
  color: var(--text); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "DejaVu Sans", sans-serif; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0.2rem 0 0.6rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 0.6rem; }
p { margin: 0.5rem 0; }
.kicker, .note, figcaption, .delta, footer { color: var(--muted); }
.kicker { margin: 0; font-size: 0.95rem; }
.answer { border-left: 0.4rem solid var(--tone); background: var(--card); padding: 1.1rem 1.3rem;
  border-radius: 0.4rem; }
.answer h1 { color: var(--tone); }
.good { --tone: var(--good); } .fair { --tone: var(--fair); } .bad { --tone: var(--bad); }
.answer ul { margin: 0.8rem 0 0; padding-left: 1.2rem; }
.answer li { margin: 0.25rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr));
  gap: 0.8rem; margin: 1rem 0; }
.tile { background: var(--card); border-radius: 0.4rem; padding: 0.8rem 1rem; }
.tile { display: flex; flex-direction: column; }
.tile h3 { margin: 0; font-size: 1rem; line-height: 1.3; }
.tile .note { margin: 0.1rem 0 0.5rem; font-size: 0.85rem; flex: 1; }
.tile dl { display: grid; grid-template-columns: 1fr auto; margin: 0; gap: 0.1rem 0.8rem; }
.tile dt { color: var(--muted); }
.tile dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
.tile .now { font-weight: 700; color: var(--text); }
.badge { display: inline-block; font-size: 0.85rem; font-weight: 600; color: var(--tone);
  margin-top: 0.4rem; }
.outcome { color: var(--tone); font-weight: 600; white-space: nowrap; }
td:first-child .delta { max-width: 18rem; }
td.whole { white-space: nowrap; }
.warning { border-left: 0.4rem solid var(--bad); padding-left: 0.9rem; }
.certificate { border: 1px solid var(--line); border-radius: 0.4rem; padding: 0.4rem 1.3rem 0.8rem; }
.certificate h3 { font-size: 1rem; margin: 1rem 0 0.2rem; }
.certificate ul { margin: 0.2rem 0; padding-left: 1.2rem; }
.certificate li, code { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 0.4rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.45rem 0.6rem; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th:first-child, td:first-child { text-align: left; min-width: 7.5rem; position: sticky; left: 0;
  background: var(--page); }
thead th { vertical-align: bottom; background: var(--card); }
thead th:first-child { background: var(--card); }
tbody tr:last-child td { border-bottom: 0; }
tr.ours td, tr.ours td:first-child { background: var(--ours); font-weight: 600; }
.delta { display: block; font-size: 0.78rem; font-weight: 400; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid var(--link); }
th[aria-sort] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
figure { margin: 1rem 0 0; }
figure img { display: block; width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line);
  border-radius: 0.4rem; padding: 0.4rem; }
figure.strips { overflow-x: auto; } figure.strips img { min-width: 36rem; }
figure.strips figcaption { position: sticky; left: 0; }
figcaption { margin: 0.5rem 0 1rem; font-size: 0.95rem; }
dl.words dt { font-weight: 600; margin-top: 0.7rem; } dl.words dd { margin: 0; color: var(--muted); }
details { margin-top: 1rem; } summary { cursor: pointer; font-weight: 600; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 0.8rem; font-size: 0.9rem; }
@media print { body { max-width: none; }
  .scroll { overflow: visible; } figure, .tile { break-inside: avoid; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.sort;
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
}
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
{body}
<footer>Made by fedunlearn. This file needs no network; it can be kept and passed on as it is.</footer>
<script>{script}</script>
</body>
</html>
"""
"""What a whole page is put into: title, css, body and script."""


def section(title: str, body: str) -> str:
    """A section of a page, under its heading; `body` is markup."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"
