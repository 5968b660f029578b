"""The table of the chaos tests: printed, kept in docs/durability.md, and summed up in one line of JSON.

    python -m tests.support.chaos.report rows.json

``rows.json`` is what the tests wrote. The page is changed only by a run of all cases.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sandbox.settings import REPOSITORY
from tests.support.chaos.playing import CASES

PAGE = REPOSITORY / "docs" / "durability.md"
BEGIN, END = "<!-- chaos table: begin -->", "<!-- chaos table: end -->"
HEAD = ("event", "system", "executions", "remote jobs", "task", "tries", "verdict")


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row as texts, in the order of HEAD."""
    verdict = "; ".join(" ".join(problem.split())[:160] for problem in row["problems"]) or row["told"]
    tries = f"{row['tries']}, {row['spent']} of them spent by Airflow itself" if row["spent"] else str(row["tries"])
    jobs = ", ".join(row["jobs"]) or "none"
    return row["event"], row["system"], str(row["executions"]), jobs, row["task"], tries, verdict


def markdown(rows: Iterable[dict[str, Any]]) -> str:
    """The table for the page."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in cells(row))} |" for row in rows]
    return "\n".join(lines)


def with_table(page: str, table: str) -> str:
    """The page with the table between its marks. Raises ValueError when it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """The last line; ``wrong_outcome`` counts the cases in which anything was not as it must be."""
    return {
        "cases": len(rows),
        "duplicates": sum(row["duplicates"] for row in rows),
        "lost": sum(row["lost"] for row in rows),
        "wrong_outcome": sum(row["wrong"] for row in rows),
    }


def main(argv: list[str]) -> int:
    """0 when there are rows and each of them is as it must be."""
    file = Path(argv[0])
    rows = json.loads(file.read_text() or "[]") if file.exists() else []
    console = Console(width=None if sys.stdout.isatty() else 180)
    shown = Table(*HEAD)
    for row in rows:
        shown.add_row(*cells(row))
    console.print(shown)
    wanted = sum(len(case.systems) for case in CASES)
    if len(rows) == wanted:
        PAGE.write_text(with_table(PAGE.read_text(), markdown(rows)))
        console.print(f"kept in {PAGE.relative_to(REPOSITORY)}")
    else:
        console.print(f"{len(rows)} of {wanted} cases were run: {PAGE.relative_to(REPOSITORY)} is left as it is")
    found = summary(rows)
    print(json.dumps(found))
    return 0 if rows and not any(value for name, value in found.items() if name != "cases") else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
