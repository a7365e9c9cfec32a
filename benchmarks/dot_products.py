"""Time one multiplication of a pure-Python matrix product, by how the rows are kept and how they are summed.

python benchmarks/dot_products.py [--size 288] [--rows 2000]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from array import array
from operator import mul

try:
    from math import sumprod
except ImportError:
    sumprod = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=288, help="numbers of a row")
    parser.add_argument("--rows", type=int, default=2000)
    given = parser.parse_args()
    numbers = [[random.random() for _ in range(given.size)] for _ in range(given.rows)]
    x = numbers[0]
    kept = {"lists": numbers, "float32 arrays": [array("f", row) for row in numbers]}
    ways = {"sum(map(mul, row, x))": lambda row: sum(map(mul, row, x))}
    if sumprod is not None:
        ways["math.sumprod(row, x)"] = lambda row: sumprod(row, x)
    print(f"Python {sys.version.split()[0]}")
    for way, product in ways.items():
        for name, rows in kept.items():
            seconds = []
            for _ in range(5):
                began = time.perf_counter()
                for row in rows:
                    product(row)
                seconds.append(time.perf_counter() - began)
            each = statistics.median(seconds) / given.size / given.rows
            print(f"  {way:24} {name:16} {each * 1e9:5.1f} ns", flush=True)


if __name__ == "__main__":
    main()
