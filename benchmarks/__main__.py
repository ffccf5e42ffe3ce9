"""``python -m benchmarks [TEXT]``: the rows that have TEXT in their name, or all of them, which are then recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from seqbook.studies import environment

from .rows import Row, gpu_rows, rows
from .timing import difference, interleaved, peaks

RESULTS = Path(__file__).parent / "results"
AGREE = 1e-3  # float32 over a thousand steps
WIDTHS = (34, 35, 24, 10, 10, 22, 9, 6)


def measure(row: Row) -> dict[str, Any] | None:
    """The entry of a row in the record; None if it cannot be measured here."""
    torch.manual_seed(0)
    ours, baseline = row.make()
    apart = difference(ours(), baseline()) if row.alike else 0.0
    if not apart < AGREE:
        raise RuntimeError(f"{row.promise} {row.size}: expected the results of both sides to agree, got {apart:.1e}")
    found = peaks(row.make) if row.memory else interleaved(ours, baseline)
    if found is None:
        return None
    met = None if row.at_most is None else found.ratio <= row.at_most
    return {
        **{"promise": row.promise, "size": row.size, "baseline": row.baseline, "unit": "MiB" if row.memory else "ms"},
        **{name: round(value, 4) for name, value in found._asdict().items()},
        **{"at_most": row.at_most, "met": met},
    }


def line(*cells: str) -> str:
    """Cells in columns: text to the left, numbers to the right."""
    cut = [cell.ljust(w) if k < 3 else cell.rjust(w) for k, (cell, w) in enumerate(zip(cells, WIDTHS, strict=True))]
    return "  ".join(cut).rstrip()


def shown(entry: dict[str, Any]) -> str:
    """The line of an entry."""
    numbers = [f"{entry[side]:.2f} {entry['unit']}" for side in ("ours", "theirs")]
    ratio = f"{entry['ratio']:.3f} [{entry['low']:.3f} {entry['high']:.3f}]"
    promised = ("", "") if entry["met"] is None else (f"{entry['at_most']:.2f}", "yes" if entry["met"] else "NO")
    return line(entry["promise"], entry["size"], entry["baseline"], *numbers, ratio, *promised)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    git = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(git, cwd=RESULTS.parent, capture_output=True, text=True, check=False).stdout.strip()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    capability = torch.backends.cpu.get_cpu_capability()
    rest = {"capability": capability, "cores": os.cpu_count(), "gpu": gpu, "commit": commit or None}
    return {**environment(), **rest}


def run(chosen: list[Row]) -> list[dict[str, Any]]:
    """Measure row after row, and print each as soon as it is known."""
    print(
        line("what", "size (N, L, H_in, H)", "baseline", "seqlab", "baseline", "ratio [quartiles]", "promised", "met")
    )
    entries = []
    for row in chosen:
        entry = measure(row)
        if entry is None:
            print(line(row.promise, row.size, row.baseline, *["not here"], *[""] * 4), flush=True)
        else:
            print(shown(entry), flush=True)
            entries.append(entry)
    return entries


def main() -> None:
    """Measure, print, and record a complete run under the name of the processor."""
    torch.set_num_threads(1)
    text, started, about = " ".join(sys.argv[1:]), time.perf_counter(), machine()
    print(*(f"{name}: {value}" for name, value in about.items()), sep="\n", end="\n\n")
    entries = run([row for row in rows() if text in row.promise])
    gpu = []
    if torch.cuda.is_available():
        print("\nGPU")
        gpu = run([row for row in gpu_rows() if text in row.promise])
    else:
        print("\nGPU: left out, since there is none that CUDA can use")
    missed = [entry for entry in entries if entry["met"] is False]
    minutes = (time.perf_counter() - started) / 60
    print(f"\n{len(entries)} rows in {minutes:.1f} minutes; promises missed: {len(missed)}")
    print(*map(shown, missed), sep="\n")
    if not text:
        print("recorded in", record(RESULTS, {"machine": about, "rows": entries, "gpu": gpu}))


def record(folder: Path, results: dict[str, Any]) -> Path:
    """Write a complete run under the name of its processor, in place of an older one."""
    about = results["machine"]
    device = about["gpu"] or about["processor"]
    name = "-".join("".join(c if c.isalnum() else " " for c in device.lower()).split())
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
