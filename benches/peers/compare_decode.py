"""Runs `ravel bench decode` and the same sizes in llama.cpp, candle and PyTorch in turn, on one machine in one run, and prints medians
of a step and their ratios to ours."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RAVEL = ROOT / "target" / "release" / "ravel"
CANDLE = ROOT / "target" / "peers" / "candle" / "release" / "decode-candle"
# What each engine can hold weights as.
TYPES = {
    "ravel": ["f32", "f16", "bf16", "q8", "q4"],
    "llama.cpp": ["f32", "f16", "bf16", "q8", "q4"],
    "candle": ["f32", "q8", "q4"],
    "torch": ["f32", "bf16"],
}


def command(engine, kind, options):
    tokens, batch, threads = (str(number) for number in (options.tokens, options.batch, options.threads))
    sizes = ["--weights-type", kind, "--tokens", tokens, "--batch", batch, "--threads", threads]
    return {
        "ravel": [str(RAVEL), "bench", "decode", "--preset", "llama-111m", "--json", *sizes],
        "llama.cpp": [sys.executable, str(HERE / "decode_llama_cpp.py"), "--files", str(ROOT / "target" / "peers"), *sizes],
        "candle": [str(CANDLE), kind, tokens, batch],
        "torch": [sys.executable, str(HERE / "decode_torch.py"), *sizes],
    }[engine]


def measured(engine, kind, options):
    surroundings = {**os.environ, "RAYON_NUM_THREADS": str(options.threads)}
    run = subprocess.run(command(engine, kind, options), check=True, capture_output=True, text=True, env=surroundings)
    return json.loads(run.stdout)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--tokens", type=int, default=64)
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--threads", type=int, default=os.cpu_count())
    options.add_argument("--engine", choices=TYPES, action="append", help="all of them without it")
    options.add_argument("--weights-type", choices=TYPES["ravel"], action="append", help="all of them without it")
    options = options.parse_args()
    engines = options.engine or list(TYPES)
    kinds = options.weights_type or TYPES["ravel"]
    rows = {(engine, kind): [] for kind in kinds for engine in engines if kind in TYPES[engine]}
    shares, limits = {}, {}
    for round in range(options.rounds):
        # Who goes first changes, so that nobody always finds the machine warm.
        for engine, kind in sorted(rows, reverse=round % 2 == 1):
            row = measured(engine, kind, options)
            rows[engine, kind].append(row["milliseconds"]["median"])
            if engine == "ravel":
                shares.setdefault(kind, []).append(row["share-of-limit"])
                limits.setdefault(kind, []).append(row["memory-gigabytes-per-second"])
    print(f"llama-111m, {options.rounds} rounds of {options.tokens} positions, {options.batch} rows, {options.threads} threads;")
    print("medians in milliseconds a step, least to greatest of the rounds in brackets; engine's time over ours")
    print(f"\n{'weights':9}" + "".join(f"{engine:>34}" for engine in engines) + f"{'of limit':>12}{'GB/s':>8}")
    for kind in kinds:
        line = f"{kind:9}"
        ours = statistics.median(rows["ravel", kind]) if ("ravel", kind) in rows else None
        for engine in engines:
            found = sorted(rows.get((engine, kind), []))
            if not found:
                line += f"{'–':>34}"
                continue
            median = statistics.median(found)
            ratio = f" ×{median / ours:.2f}" if ours and engine != "ravel" else ""
            line += f"{f'{median:.2f} ({found[0]:.2f}–{found[-1]:.2f}){ratio}':>34}"
        if kind in shares:
            line += f"{statistics.median(shares[kind]):>12.2f}{statistics.median(limits[kind]):>8.1f}"
        print(line, flush=True)


main()
