"""What the tasks refuse of their sizes and generators."""

from __future__ import annotations

from typing import Any

import torch


def check_size(who: str, least: int = 1, **sizes: Any) -> None:
    """Every size is an integer of at least ``least``."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"{who}: expected {name} as an int, got {size!r}")
        if size < least:
            raise ValueError(f"{who}: expected {name} of at least {least}, got {size}")


def check_generator(who: str, generator: Any) -> None:
    """The generator is torch's and lives on the CPU: other devices draw other numbers from the same seed."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"{who}: expected generator as a torch.Generator, got {type(generator).__name__}; "
            "use torch.Generator().manual_seed(0)"
        )
    if generator.device.type != "cpu":
        raise ValueError(
            f"{who}: expected a generator on the CPU, got one on {generator.device}; "
            "make it with torch.Generator() and move the tensors afterwards"
        )
