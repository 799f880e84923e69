"""Runs `ravel bench tokenizer` and the same decoders in PyTorch in turn, on one machine in one run, and prints seconds and ratios.

Each process decodes one picture first and then several that are timed; the least of a process is what it can do, and of the
processes' least numbers the median is shown, so that a moment in which the machine had other work does not count.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RAVEL = HERE.parent.parent / "target" / "release" / "ravel"
PRESETS = ("llamagen-vq16", "var-vqvae")
# PyTorch channels last in f32 is what the others are held against.
BASE = "torch f32"


def commands(preset):
    ravel = [str(RAVEL), "bench", "tokenizer", "--json", "--preset", preset]
    torch = [sys.executable, str(HERE / "tokenizer.py"), "--preset", preset]
    return {
        BASE: [*torch, "--type", "f32"],
        "ravel f32": [*ravel, "--type", "f32"],
        "torch bf16": [*torch, "--type", "bf16"],
        "ravel bf16": [*ravel, "--type", "bf16"],
        "torch f32, channels first": [*torch, "--type", "f32", "--planes"],
    }


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5, help="processes of each kind, in turn")
    options.add_argument("--pictures", type=int, default=5, help="timed pictures of a process")
    options.add_argument("--threads", type=int, default=os.cpu_count())
    options.add_argument("--preset", choices=PRESETS, action="append", help="both without it")
    options = options.parse_args()
    common = ["--threads", str(options.threads), "--rounds", str(options.pictures)]
    print(f"{options.rounds} rounds of {options.pictures} pictures, {options.threads} threads; seconds: median of the rounds' least (least to greatest)")
    for preset in options.preset or PRESETS:
        kinds = commands(preset)
        rows = {name: [] for name in kinds}
        for round in range(options.rounds):
            # Who goes first changes, so that nobody always finds the machine warm.
            names = list(kinds)
            for name in names[round % len(names) :] + names[: round % len(names)]:
                command = [*kinds[name], "--seed", str(round), *common]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                rows[name].append(json.loads(output))
        print(f"\n{preset:26}{'decode':>24}{'first':>8}{'peak MiB':>10}{'PSNR dB':>9}{'torch f32 / it':>16}{'in a round':>16}")
        base = [row["seconds"]["least"] for row in rows[BASE]]
        for name, found in rows.items():
            least = [row["seconds"]["least"] for row in found]
            ratios = sorted(torch / own for torch, own in zip(base, least))
            shown = f"{statistics.median(least):.3f} ({min(least):.3f}–{max(least):.3f})"
            first = statistics.median(row["seconds"]["first"] for row in found)
            peak = statistics.median(row["peak-mib"] for row in found)
            quality = [row["psnr-db"] for row in found if row.get("psnr-db") is not None]
            quality = f"{min(quality):.1f}" if quality else ""
            of_rounds = f"{ratios[0]:.2f}–{ratios[-1]:.2f}"
            print(f"{name:26}{shown:>24}{first:>8.2f}{peak:>10.0f}{quality:>9}{statistics.median(ratios):>16.2f}{of_rounds:>16}", flush=True)


main()
