#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the figures of a results file as a Markdown table."""

import json
import sys


def cell(value):
    return "–" if value is None else f"{value:g}"


def main(path):
    print("| area | figure | unit | ours | peer | | ratio | goal | |")
    print("|---|---|---|---:|---:|---|---:|---|---|")
    with open(path, encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            print(f"| {line['area']} | {line['name']} | {line['unit']} "
                  f"| {cell(line['ours'])} | {cell(line['peer'])} "
                  f"| {line['peer_name'] or ''} | {cell(line['ratio'])} "
                  f"| {line['goal']} | {'met' if line['ok'] else '**missed**'} |")


if __name__ == "__main__":
    main(sys.argv[1])
