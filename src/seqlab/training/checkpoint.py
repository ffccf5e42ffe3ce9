"""Checkpoints: one file with all that a run needs to go on bit for bit, written whole and read back, or not at all."""

from __future__ import annotations

import errno
import io
import os
import pickle
import random
import re
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checks import check_sizes
from .distributed import gather
from .history import History

FORMAT, VERSION = "seqlab checkpoint", 1
ANEW = "start anew with Checkpoint(..., resume=False)"
# The types of NumPy that a state may hold; torch.load reads its own and plain Python ones without being asked.
NUMPY: list[Any] = [
    np.ndarray,
    np.dtype,
    np.zeros(0).__reduce__()[0],  # the function that pickle calls to make an array,
    np.float64(0).__reduce__()[0],  # and that for a scalar
    *{type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OV"},
]


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often a run is saved.

    The file holds the newest weights, the best ones, optimizer, scheduler, history and the state of all generators. A
    new one is written beside it, read back as a resumed run would read it, and takes its place when it is on the disk:
    whatever happens, the name belongs to a whole file. The states may hold tensors, plain Python and NumPy's numbers
    and arrays; other objects are refused by name, since reading them could run foreign code.

    Args:
        path: of the file; a folder that is missing is made.
        every: steps from one to the next. There is one before the first step, which finds an unwritable disk at
            once, one after it, when the optimizer has its state, and one at the end.
        resume: if the file is there, go on from it. False: start anew, and write over it.

    Raises:
        TypeError: path is not a path, every not an int.
        ValueError: every is below 1.

    >>> Checkpoint("runs/gru.pt", every=500)
    Checkpoint(path='runs/gru.pt', every=500, resume=True)
    """

    path: str | Path
    every: int = 1000
    resume: bool = True

    def __post_init__(self) -> None:
        """Validate the fields."""
        if not isinstance(self.path, (str, Path)):
            raise TypeError(f"Checkpoint: expected path as a str or Path, got {type(self.path).__name__}")
        check_sizes("Checkpoint", every=self.every)

    @property
    def is_there(self) -> bool:
        """Is there one to resume from?"""
        return self.resume and Path(self.path).exists()


@dataclass
class Run:
    """All that changes while a model trains."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    history: History
    best: dict[str, Any] | None = None  # weights

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "kinds": self.kinds(),
            "model": self.model.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "history": asdict(self.history),
            "random": gather(random_state()),  # of every process
        }

    def kinds(self) -> dict[str, str | None]:
        """The names of the classes of optimizer and scheduler."""
        scheduler = None if self.scheduler is None else type(self.scheduler).__name__
        return {"optimizer": type(self.optimizer).__name__, "scheduler": scheduler}

    def load(self, path: str | Path, rank: int, size: int) -> None:
        """Go back to the state in the file."""
        state = read(path)
        if (written_by := len(state["random"])) != size:
            raise ValueError(
                f"fit: expected {written_by} process(es), as wrote {path}, got {size}; start {written_by}, or begin a "
                "new run from its weights, with load_weights"
            )
        if (state["scheduler"] is None) != (self.scheduler is None):
            there, here = ("none", "one") if state["scheduler"] is None else ("one", "none")
            raise ValueError(f"fit: expected scheduler as in {path}, which has {there}, got {here}; {ANEW}")
        for what, own in self.kinds().items():
            if (wrote := state.get("kinds", {}).get(what, own)) != own:
                raise ValueError(f"fit: expected {what} as in {path}, which has {wrote}, got {own}; {ANEW}")
        load_state(self.model, state["model"], path)
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except ValueError as error:
            raise ValueError(f"fit: expected the optimizer that wrote {path}, got another ({error}); {ANEW}") from error
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.history, self.best = History(**state["history"]), state["best"]
        set_random_state(state["random"][rank])


def write(path: str | Path, state: dict[str, Any]) -> None:
    """Write the file whole or not at all: beside it first, on to the disk, read back, then renamed."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    kept = f"{path} is still the one before" if path.exists() else "there was none before"
    if found := unloadable(state.get("optimizer", {}).get("state", {}), "optimizer['state']"):
        raise refusal(found, kept)
    try:
        with open(part, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        read(part)
        os.replace(part, path)
    except MemoryError:
        raise
    except Exception as error:  # pickle, torch and read each have several for what they do not take
        if disk := from_disk(error):
            text, number = f"({disk.strerror}); {kept}; make room, and resume", disk.errno
        elif found := unreadable(state, ""):
            raise refusal(found, kept) from error
        else:
            text, number = f"as it should be: it reads back damaged ({error}); {kept}; take another disk", errno.EIO
        raise OSError(number, f"fit: could not write the checkpoint {text}", str(path)) from error
    finally:
        part.unlink(missing_ok=True)
    if os.name == "posix":  # the move itself reaches the disk with the folder
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def from_disk(error: BaseException | None) -> OSError | None:
    """The error of the disk; while torch closes a file that is not whole it raises another above it."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def refusal(found: str, kept: str) -> TypeError:
    """The error for a part of a state."""
    return TypeError(
        f"fit: expected a state that can be read back safely from a checkpoint, got {found}; put a number or Tensor in "
        f"its place, or leave it out of state_dict(); {kept}"
    )


def unreadable(value: Any, name: str) -> str | None:
    """Name and type of the first part of a state that cannot be saved and read back by itself; None if all can."""
    try:
        file = io.BytesIO()
        torch.save(value, file)
        file.seek(0)
        safe_load(file)
        return None
    except MemoryError:
        raise
    except Exception:  # as in write
        parts: Any = value.items() if isinstance(value, dict) else ()
        if type(value) in (list, tuple):
            parts = enumerate(value)
        for key, part in parts:
            if found := unreadable(part, f"{name}[{key!r}]" if name else str(key)):
                return found
        return f"{name}, of type {kind(value)}" if name else None


def unloadable(value: Any, name: str) -> str | None:
    """The first part of an optimizer's state that torch spoils: load_state_dict makes iterables anew, a string too."""
    if isinstance(value, Tensor) or not isinstance(value, Iterable):
        return None
    if isinstance(value, dict):
        parts = [(f"{name}[{key!r}]", part) for key, part in value.items()]
    elif type(value) in (list, tuple, set, frozenset):
        parts = [(f"{name}[{k}]", part) for k, part in enumerate(value)]
    else:
        return f"{name}, of type {kind(value)}"
    return next(filter(None, (unloadable(part, where) for where, part in parts)), None)


def kind(value: Any) -> str:
    """The full name of the value's type."""
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def safe_load(file: Any) -> Any:
    """What torch.load reads without running foreign code, on the CPU."""
    with torch.serialization.safe_globals(NUMPY):
        return torch.load(file, map_location="cpu", weights_only=True)


def read(path: str | Path) -> dict[str, Any]:
    """The state in the file, on the CPU."""
    who = "checkpoint: expected a file written by fit, got"
    other = "give Checkpoint another path, or resume=False to write over it"
    with open(path, "rb") as file:
        if (start := file.read(4)) != b"PK\x03\x04":  # with which torch.save begins every file
            raise ValueError(f"{who} {'another kind of file' if start else 'an empty file'}, {path}; {other}")
        try:
            if damaged := zipfile.ZipFile(file).testzip():  # torch.load itself lets a flipped bit pass
                raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        except Exception as error:  # zipfile has several for what it cannot follow
            if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno != errno.EINVAL):
                raise
            raise ValueError(
                f"{who} one that is cut off or damaged ({error}), {path}; take a copy, or {ANEW}"
            ) from error
        file.seek(0)
        try:
            state = safe_load(file)
        except (MemoryError, OSError):
            raise
        except Exception as error:
            foreign = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
            if foreign:
                raise ValueError(
                    f"{who} one with the type {foreign[1]} in it, whose reading could run foreign code, {path}; the "
                    "file is whole: read it with the program that wrote it, or give Checkpoint another path"
                ) from error
            raise ValueError(f"{who} one that torch cannot read ({error}), {path}; {other}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{who} another kind of file, {path}; {other}")
    if state["version"] != VERSION:
        raise ValueError(
            f"checkpoint: expected version {VERSION} of the format, got version {state['version']} in {path}; "
            "read it with the seqlab that wrote it"
        )
    return state


def load_weights(model: nn.Module, path: str | Path, *, best: bool = False) -> None:
    """Load the weights in a checkpoint of :func:`fit` into a model, to use it or to begin another run from it.

    Args:
        model: of the same architecture.
        path: of the file.
        best: the weights with the best evaluation, not the newest.

    Raises:
        ValueError: the file is damaged, or of another kind, or has weights of another architecture, or none that are
            best.
        FileNotFoundError: there is no file.

    >>> import tempfile
    >>> from seqlab.training import fit
    >>> model, copy = nn.Linear(2, 1), nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save = Checkpoint(folder + "/run.pt")
    ...     history = fit(model, lambda m, x: m(x).mean(), lambda n: torch.ones(3, 2), optimizer, 5, checkpoint=save)
    ...     load_weights(copy, save.path)
    >>> torch.equal(copy.weight, model.weight)
    True
    """
    state = read(path)
    weights = state["best" if best else "model"]
    if weights is None:
        raise ValueError(f"load_weights: expected best weights in {path}, got none; run fit with an evaluation")
    load_state(model, weights, path)


def load_state(model: nn.Module, weights: dict[str, Any], path: str | Path) -> None:
    """Into the model; weights of another architecture are refused in one line."""
    there, here = ({n: shape(n, w) for n, w in state.items()} for state in (weights, model.state_dict()))
    for name in [*there, *here]:
        if there.get(name) != here.get(name):
            raise ValueError(
                f"checkpoint: expected the model that wrote {path}, with {name} of shape {there.get(name)}, got "
                f"{here.get(name)} in this one; build the same model, or start anew"
            )
    model.load_state_dict(weights)


def shape(name: str, entry: Any) -> Any:
    """What must agree of an entry of a state_dict; what get_extra_state returns may be anything."""
    return tuple(entry.shape) if isinstance(entry, Tensor) and not name.endswith("_extra_state") else "any"


def random_state() -> dict[str, Any]:
    """The state of the global generators, all from which dropout and the like may draw."""
    drawn: Any = np.random.get_state()  # noqa: NPY002  # the global generator is what others draw from
    kind, keys, *rest = drawn
    state = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Set them back; those of a device that is not here are left out."""
    kind, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
