"""What a run shows while it trains: a progress bar and TensorBoard, each with a package that is optional."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def progress_bar(show: bool | None, done: int, steps: int) -> Iterator[Any]:
    """A bar of tqdm; by default where there is a reader and tqdm is installed. None where it is not shown."""
    tqdm: Any = None
    if show or (show is None and has_reader()):
        try:
            from tqdm import auto

            tqdm = auto.tqdm
        except ModuleNotFoundError as error:
            if show:
                raise ModuleNotFoundError(
                    "fit: expected the package tqdm for progress=True, and found none; pip install tqdm",
                    name="tqdm",
                ) from error
    if tqdm is None:
        yield None
        return
    with tqdm(total=steps, initial=done, unit="step") as bar:
        yield bar


def has_reader() -> bool:
    """Is this a terminal, or a notebook run by hand? Not when a page is built or a notebook tested."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return sys.stderr is not None and sys.stderr.isatty()
    asks = getattr(kernel, "_allow_stdin", False)  # whether input() can be answered; not when a page is built
    return bool(asks) or "google.colab" in sys.modules


@contextmanager
def tensorboard(writer: Any, done: int) -> Iterator[Any]:
    """The writer; for a folder a new one, which is closed at the end; None for None."""
    if not isinstance(writer, (str, Path)):
        yield writer
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "fit: expected the package tensorboard for a folder as writer, and found none; pip install tensorboard",
            name="tensorboard",
        ) from error
    with SummaryWriter(str(writer), purge_step=done) as own:
        yield own
