"""What the three layers share: constructor, forward, the choice of an engine, and watching.

Shapes: N batch, L length, H_in input_size, H hidden_size, D directions.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from ..checks import check_dropout, check_layer_input, check_layer_state, check_sizes
from .call import Call, State, Weights, arrange
from .engines import ENGINES, choose
from .watch import GradientWatcher, Watcher

PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")  # of one direction of one layer
Final = TypeVar("Final")  # the final state: h_n, or (h_n, c_n)


class Recurrent(nn.RNNBase, Generic[Final]):
    """What the three layers share. A layer adds its step."""

    kind: str  # "RNN", "LSTM" or "GRU"
    state_names: tuple[str, ...] = ("h",)
    step_options: tuple[str, ...] = ()  # attributes that are options of the step
    backend: str

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, **options: Any) -> None:
        who = type(self).__name__
        check_sizes(who, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_dropout(who, options["dropout"])
        super().__init__(input_size, hidden_size, num_layers, **options)  # type: ignore[arg-type]
        self._watchers: OrderedDict[int, Watcher] = OrderedDict()
        self._gradient_watchers: OrderedDict[int, GradientWatcher] = OrderedDict()
        if self.backend not in ("hand", "onednn", "watched"):  # whether these are possible depends on the call
            self.path()  # an impossible backend is refused here, not at the first batch

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run the layer over a sequence: ``(output, final state)``, as in ``torch.nn``; shapes as in the class."""
        check_layer_input(self, input)
        state = None if hx is None else check_layer_state(self, input, hx, self.state_names)
        input, state, layout = arrange(input, state, self.batch_first)
        call = self._call(input, state)
        engine, _ = choose(call, self.backend)
        output, final = layout.restore(*ENGINES[engine].run(call))
        return output, final if len(final) == 2 else final[0]

    if TYPE_CHECKING:  # nn.Module's own says Any

        @overload
        def __call__(self, input: Tensor, hx: Final | None = None) -> tuple[Tensor, Final]: ...
        @overload
        def __call__(self, input: PackedSequence, hx: Final | None = None) -> tuple[PackedSequence, Final]: ...
        def __call__(self, input: Any, hx: Any = None) -> Any: ...

    def step(self, input: Tensor, state: State, weights: Weights) -> State:
        """One step of the cell: the equation of this layer. A subclass may have another; the loop runs it."""
        raise NotImplementedError

    def _call(self, input: Tensor | PackedSequence, initial: State | None) -> Call:
        """What an engine needs: input and initial state with the axes (L, N, ...)."""
        data = input.data if isinstance(input, PackedSequence) else input
        N = int(input.batch_sizes[0]) if isinstance(input, PackedSequence) else data.shape[1]
        weights = [[self._weights(k, d) for d in range(1 + self.bidirectional)] for k in range(self.num_layers)]
        if initial is None:
            rows = self.num_layers * (1 + self.bidirectional)
            sizes = [self.proj_size or self.hidden_size, self.hidden_size]
            initial = tuple(data.new_zeros(rows, N, H) for _, H in zip(self.state_names, sizes, strict=False))
        return Call(
            self.kind,
            self.step,
            getattr(self.step, "__module__", "").startswith(f"{__package__}."),
            {name: getattr(self, name) for name in self.step_options},
            self.state_names,
            input,
            initial,
            weights,
            self.dropout,
            self.training,
            list(self._watchers.values()),
            list(self._gradient_watchers.values()),
        )

    def _weights(self, layer: int, direction: int) -> Weights:
        """The parameters of one direction of one layer, as they are now: computed or replaced ones too."""
        suffix = f"l{layer}_reverse" if direction else f"l{layer}"
        names = PARAMETERS[:2] + PARAMETERS[2:4] * self.bias + PARAMETERS[4:] * bool(self.proj_size)
        return {name: getattr(self, f"{name}_{suffix}") for name in names}

    def path(self, input: Tensor | PackedSequence | None = None) -> tuple[str, str]:
        """Which engine a call would take now, "loop", "hand", "onednn", "torch" or "watched", and the reason in words.

        Args:
            input: what the layer would be called with; without it, a dense batch of long sequences in the dtype and on
                the device of the weights is meant.

        Raises:
            ValueError: the backend is unknown, or cannot do what is asked.

        A second derivative is asked for after the call, too late for this rule. All engines have it, save cuDNN's
        kernels, which refuse: for second derivatives on CUDA name backend="loop" or "hand".

        >>> import torch
        >>> from seqlab import GRU
        >>> layer, x = GRU(3, 5), torch.zeros(20, 2, 3)
        >>> layer.path(x)
        ('hand', 'the hand-written backward pass is the fastest on the CPU')
        >>> with torch.no_grad():
        ...     layer.path(x)[0]
        'torch'
        >>> GRU(3, 5, backend="loop").path(x)
        ('loop', "backend='loop' was asked for")
        """
        if input is None:
            input = next(iter(self._weights(0, 0).values())).new_empty(64, 1, self.input_size)
        else:
            check_layer_input(self, input)
            input, _, _ = arrange(input, None, self.batch_first)
        return choose(self._call(input, None), self.backend)

    def watch(self, fn: Watcher) -> RemovableHandle:
        """Call ``fn(layer, direction, t, state)`` after each step of the loop, until the returned handle is removed.

        While a watcher is registered, backend="auto" takes the loop. The tensors of the state are the nodes that the
        next step computes with, so that a hook on them sees the total gradient dL/dh_t (and dL/dc_t, which counts
        the way through h_t too). Where a sequence of a packed batch has no step t, its row holds a value that is not
        used, and its gradient is zero. Copies and pickles leave watchers out.

        Args:
            fn: gets the layer, the direction (1 is reverse), the index t on the input's time axis, and the state
                after the step: {"h": h}, or {"h": h, "c": c} in an LSTM. What it returns is not used.

        Shape:
            h and c (N, H), in the order of the caller's batch; (1, H) for unbatched input.

        >>> import torch
        >>> from seqlab import RNN
        >>> layer = RNN(3, 5)
        >>> with layer.watch(lambda layer, direction, t, state: print(t, state["h"].shape)):
        ...     output, h_n = layer(torch.zeros(2, 4, 3))
        0 torch.Size([4, 5])
        1 torch.Size([4, 5])
        """
        handle = RemovableHandle(self._watchers)
        self._watchers[handle.id] = fn
        return handle

    def watch_gradients(self, fn: GradientWatcher) -> RemovableHandle:
        """Call ``fn(layer, direction, states)`` in each call, and what it returns in each backward pass through it.

        For every layer and direction of a call that a backward pass can follow, ``fn`` gets the states after all
        steps. It returns a function, which is called in each backward pass with the total gradients of these states,
        dL/dh_t and dL/dc_t, the latter by way of h_t too; or it returns None. While a watcher is registered,
        backend="auto" takes the hand-written pass, or else the loop, and no gradient counts as vanished. Copies and
        pickles leave watchers out.

        Args:
            fn: gets the layer, the direction (1 is reverse), and the states {"h": h}, or {"h": h, "c": c} in an LSTM.
                States and gradients carry no graph; they may be kept, but not changed.

        Shape:
            states and gradients (L, N, H), (L, 1, H) for unbatched input; for a PackedSequence as PackedSequences in
            the order of the input.

        >>> import torch
        >>> from seqlab import GRU
        >>> layer = GRU(3, 5)
        >>> def watcher(layer, direction, states):
        ...     return lambda gradients: print(gradients["h"].norm(dim=-1).count_nonzero(), "of", states["h"].shape[0])
        >>> with layer.watch_gradients(watcher):
        ...     output, h_n = layer(torch.zeros(3, 1, 3))
        >>> output[1].sum().backward()  # the last step plays no part
        tensor(2) of 3
        """
        handle = RemovableHandle(self._gradient_watchers)
        self._gradient_watchers[handle.id] = fn
        return handle

    def extra_repr(self) -> str:
        """As torch's, and the backend where one was named."""
        return super().extra_repr() + ("" if self.backend == "auto" else f", backend={self.backend}")

    def __getstate__(self) -> dict[str, Any]:
        """Leave watchers out of copies and pickles."""
        return {**super().__getstate__(), "_watchers": OrderedDict(), "_gradient_watchers": OrderedDict()}

    def _init_flat_weights(self) -> None:
        """torch's list for cuDNN, without computed weights: a layer that kept such a tensor could not be copied."""
        super()._init_flat_weights()
        self._flat_weights = [w if isinstance(w, nn.Parameter) else None for w in self._flat_weights]
