"""Speed and memory of the scan operators against other implementations: ``python -m benchmarks --help``.

What counts are ratios inside one run: implementations take turns in one process, and each is first checked against the
reference. Milliseconds of different runs are not comparable.
"""
