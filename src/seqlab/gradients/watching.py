"""Modules watched without a change to them: for the time of a sampled step a module takes another class.

The class inherits from the module's own and from seqlab's: a layer of ``torch.nn`` then runs seqlab's forward pass on
its parameters, and watchers get the states and their gradients. Nothing is written into the module, so that its copies,
pickles and state_dict are those of a module that is not watched.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

from torch import nn

from ..cells import GRUCell, LSTMCell, RNNCell
from ..recurrent import GRU, LSTM, RNN

TWINS: dict[type[nn.Module], type[nn.Module]] = {
    nn.RNN: RNN,
    nn.LSTM: LSTM,
    nn.GRU: GRU,
    nn.RNNCell: RNNCell,
    nn.LSTMCell: LSTMCell,
    nn.GRUCell: GRUCell,
}


class Eye(Protocol):
    """Sees a call of one module before and after, and may put other values in the place of what it sees."""

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call."""

    def after(self, output: Any) -> Any:
        """What the call returns."""


class _Unseen:
    """First base of the class of a watched module: copies and pickles show the module with its own class."""

    _plain: ClassVar[type[nn.Module]]
    _eyes: ClassVar[list[Eye]]  # of this one module: each has a class to itself

    @contextmanager
    def _unwatched(self) -> Iterator[None]:
        watched = type(self)
        self.__class__ = self._plain  # type: ignore[assignment]
        try:
            yield
        finally:
            self.__class__ = watched

    def __reduce_ex__(self, protocol: Any) -> Any:
        with self._unwatched():
            return self.__reduce_ex__(1)  # protocol 2 and later names a class that pickle would compare with ours

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        with self._unwatched():
            return copy.deepcopy(self, memo)


class _Seen:
    """Base that shows a call to the eyes."""

    _eyes: ClassVar[list[Eye]]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        for eye in self._eyes:
            args, kwargs = eye.before(args, kwargs)
        output = super().forward(*args, **kwargs)  # type: ignore[misc]
        for eye in self._eyes:
            output = eye.after(output)
        return output


def twin_of(module: nn.Module) -> type[nn.Module] | None:
    """seqlab's class for a layer or cell of ``torch.nn`` or of seqlab; None for any other module.

    >>> twin_of(nn.LSTM(3, 5)).__module__, twin_of(nn.Linear(3, 5))
    ('seqlab.recurrent.layers', None)
    """
    return next((twin for plain, twin in TWINS.items() if isinstance(module, plain)), None)


def _example(module: Any, twin: Any) -> nn.Module:
    """A module of seqlab's of the same sizes, without memory. Raises ValueError for what seqlab doesn't have."""
    options = {"proj_size": module.proj_size} if getattr(module, "proj_size", 0) else {}
    return twin(module.input_size, module.hidden_size, **options, device="meta")


_classes: WeakKeyDictionary[nn.Module, type[nn.Module]] = WeakKeyDictionary()


def _watched_class(module: nn.Module) -> type[nn.Module]:
    """The class to lend. A subclass's own forward runs around the eyes in a layer, and inside of them in a cell."""
    plain, twin = type(module), twin_of(module)
    made = _classes.get(module)
    if made is not None and made._plain is plain:  # type: ignore[attr-defined]
        return made
    # What seqlab's constructor stores beside torch's: attributes of the class here, which no copy takes along.
    added = {k: v for k, v in vars(_example(module, twin)).items() if k not in vars(module)}
    members = {"__module__": plain.__module__, "__doc__": plain.__doc__, "_plain": plain, "_eyes": [], **added}
    if isinstance(module, nn.RNNCellBase):
        bases = _Unseen, _Seen, *([] if issubclass(twin, plain) else [plain]), twin  # type: ignore[arg-type]
    else:
        seen = type(plain.__name__, (_Seen, twin), {})  # type: ignore[arg-type]
        bases = _Unseen, *([] if issubclass(seen, plain) else [plain]), seen
    _classes[module] = type(plain.__name__, bases, members)  # type: ignore[arg-type]
    return _classes[module]


def watch(module: Any, eye: Eye) -> None:
    """Show the module's calls to the eye, until ``unwatch``."""
    if not isinstance(module, _Unseen):
        module.__class__ = _watched_class(module)
    module._eyes.append(eye)


def unwatch(module: Any, eye: Eye) -> None:
    """End ``watch``. The last eye that leaves gives the module its class back."""
    module._eyes.remove(eye)
    if not module._eyes:
        module.__class__ = module._plain


def survey(model: nn.Module) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The modules to watch, and those that look recurrent but can't be watched, with the reason: both by name.

    A module looks recurrent if it has a parameter weight_hh of its own, or if RNN, LSTM, GRU or Recurrent is in the
    name of its class and no module in it is recurrent.

    >>> model = nn.ModuleDict({"a": nn.GRU(3, 5), "b": nn.Linear(3, 5)})
    >>> survey(model)
    ({'a': GRU(3, 5)}, {})
    """
    watched: dict[str, nn.Module] = {}
    others: dict[str, str] = {}
    for name, module in reversed(list(model.named_modules())):  # the inner ones before those that contain them
        twin, kind = twin_of(module), getattr(module, "original_name", type(module).__name__)  # of torch.jit: original
        if twin is not None:
            try:
                _example(module, twin)
                watched[name] = module
            except ValueError as error:
                others[name] = f"{kind} that seqlab does not have: {error}"
        elif not any(not name or inner.startswith(f"{name}.") for inner in (*watched, *others)) and (
            re.search("RNN|Rnn|LSTM|Lstm|GRU|Gru|Recurrent", kind)
            or any(p.startswith("weight_hh") for p in module._parameters)
        ):
            others[name] = f"{kind}, not a layer or cell of torch.nn or seqlab"
    return dict(reversed(watched.items())), dict(reversed(others.items()))
