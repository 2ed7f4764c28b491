"""How much longer `import emkit` takes than `import sklearn.mixture`, on which it stands.

Run from anywhere with emkit installed: ``python tests/benchmarks/bench_import.py``. Fresh interpreters in alternation;
the first pair, which may have to compile and to read from disk, does not count.
"""

import argparse
import statistics
import subprocess
import sys
import time

PROGRAMS = {"sklearn.mixture": "import sklearn.mixture", "emkit": "import sklearn.mixture, emkit"}


def seconds(program: str) -> float:
    """Wall-clock time of a fresh interpreter."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
    return time.perf_counter() - begin


def main() -> None:
    """Print medians over pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    for program in PROGRAMS.values():
        seconds(program)
    times = [{name: seconds(program) for name, program in PROGRAMS.items()} for _ in range(pairs)]
    for name in PROGRAMS:
        print(f"import {name}: {1000 * statistics.median(pair[name] for pair in times):.0f} ms")
    more = statistics.median(pair["emkit"] - pair["sklearn.mixture"] for pair in times)
    print(f"emkit adds {1000 * more:.0f} ms (median of {pairs} pairs)")


if __name__ == "__main__":
    main()
