"""Runs `ravel bench image` and the same shapes in PyTorch in turn, on one machine in one run, and prints medians and their ratios."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RAVEL = HERE.parent.parent / "target" / "release" / "ravel"
PRESETS = {"llamagen-b": "llamagen_b.py", "var-d16": "var_d16.py"}
PARTS = ("load", "prefill", "decode", "tokenizer-decode", "picture")


def measured(command):
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    row = json.loads(output)
    return {**row["seconds"], "peak MiB": row["peak-mib"]}


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=os.cpu_count())
    options.add_argument("--preset", choices=PRESETS, action="append", help="all of them without it")
    options = options.parse_args()
    threads = ["--threads", str(options.threads)]
    print(f"{options.rounds} rounds, {options.threads} threads, medians in seconds, least to greatest in brackets")
    for preset in options.preset or PRESETS:
        commands = {
            "ravel": [str(RAVEL), "bench", "image", "--preset", preset, "--json"],
            "torch": [sys.executable, str(HERE / PRESETS[preset])],
        }
        rows = {name: [] for name in commands}
        for round in range(options.rounds):
            # Who goes first changes, so that neither always finds the machine warm.
            for name in sorted(commands, reverse=round % 2 == 1):
                rows[name].append(measured([*commands[name], "--seed", str(round), *threads]))
        print(f"\n{preset:17}{'ravel':>30}{'torch':>30}{'torch / ravel':>15}")
        for part in (*PARTS, "peak MiB"):
            values = {name: sorted(row[part] for row in rows[name]) for name in rows}
            median = {name: statistics.median(values[name]) for name in rows}
            shown = [f"{median[name]:.3f} ({values[name][0]:.3f}–{values[name][-1]:.3f})" for name in rows]
            print(f"{part:17}{shown[0]:>30}{shown[1]:>30}{median['torch'] / median['ravel']:>15.2f}", flush=True)


main()
