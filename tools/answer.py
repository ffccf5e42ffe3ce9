"""Print the digest of an exercise's answer, for src/seqbook/answers.toml."""

from __future__ import annotations

import argparse

from seqbook.answers import lines


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("id", help="the exercise")
    parser.add_argument("answer", nargs="+", help="its number, several numbers in order, or every word that is right")
    parser.add_argument("--step", type=float, help="of numbers: how exact; an answer is right within one step")
    asked = parser.parse_args()
    print(lines(asked.id, asked.answer, asked.step))


if __name__ == "__main__":
    main()
