"""Rule draw_digits: the miniature's training and test sets, as ImageFolders."""

import argparse
from pathlib import Path

from genclass.miniature.digits import draw_digits
from genclass.scripting import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, type=Path)
    draw_digits(parser.parse_args().output)


if __name__ == "__main__":
    run(main)
