"""Rule report: the page, its tables and figures, from what exists in the results folder."""

import argparse
from pathlib import Path

from genclass.files import write_atomically
from genclass.paths import Run
from genclass.reporting.page import render
from genclass.scripting import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True, type=Path, help="e.g. results/miniature")
    arguments = parser.parse_args()
    summary = render(arguments.results)
    text = f"{summary.main}\n\nreport: {summary.page}\n"
    if summary.missing:
        missing = (
            "1 evaluation is" if summary.missing == 1 else f"{summary.missing} evaluations are"
        )
        text = f"{missing} missing: the report says why\n{text}"
    write_atomically(Run(arguments.results).summary, text)
    print(text)


if __name__ == "__main__":
    run(main)
