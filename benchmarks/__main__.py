"""`make bench`: run every benchmark and print its table."""

from __future__ import annotations

from benchmarks import appends

for benchmark in (appends,):
    print(benchmark.__doc__.splitlines()[0])
    for line in benchmark.run():
        print("  " + line)
