#!/usr/bin/env bash
# Wall time and peak memory of one picture, cold start included. Prints a table for BENCHMARKS.md.
set -euo pipefail
cd "$(dirname "$0")/.."
ravel=target/release/ravel
rounds=${1:-9}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# The kernel's own count of the largest resident set, in KiB; bash has no way to ask for it.
measure() {
    python3 - "$@" <<'PY'
import resource, subprocess, sys, time
start = time.monotonic()
subprocess.run(sys.argv[1:], check=True)
wall = time.monotonic() - start
print(f"{wall:.3f} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f}")
PY
}

printf '%-10s %10s %10s %10s %10s\n' pipeline min/s median/s max/s peak/MiB
for pipeline in emoji-ar emoji-var; do
    for round in $(seq "$rounds"); do
        measure "$ravel" image "a red heart" --pipeline "$pipeline" --seed "$round" --quiet -o "$out/$pipeline-$round.png"
    done | sort -n | awk -v name="$pipeline" '
        { wall[NR] = $1; if ($2 > peak) peak = $2 }
        END { printf "%-10s %10.3f %10.3f %10.3f %10d\n", name, wall[1], wall[int((NR + 1) / 2)], wall[NR], peak }'
done
