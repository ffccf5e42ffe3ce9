"""How fast seqlab is, against a named baseline: ``python -m benchmarks``, or ``make bench``. See README.md here."""
