"""Time one multiplication of a pure-Python matrix product, by how the rows are kept and how they are summed.

python benchmarks/dot_products.py
"""

from __future__ import annotations

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
SIZE, ROWS = 288, 2000


def main() -> None:
    numbers = [[random.random() for _ in range(SIZE)] for _ in range(ROWS)]
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
            print(f"  {way:24} {name:16} {statistics.median(seconds) / SIZE / ROWS * 1e9:5.1f} ns")


if __name__ == "__main__":
    main()
