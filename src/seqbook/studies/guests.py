"""Six guests order, then somebody asks: small readers of one sentence, trained with many seeds side by side.

"Ann tea Bob milk ..." is the sentence: every guest, in random order, names a drink. A question asks for one drink, by
the guest's name or by the place in the sentence. Chapter 1 asks which reader learns to answer, after how much training.
Every parameter, word and score has a first axis of S independent networks, each with its own data and learning rate, so
that twenty networks cost little more than one. Nothing is shared between them: the loss is a sum over networks.

Shapes: S networks, N sentences, L words, M moments at which somebody asks, Q questions, W width, D drinks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "DRINKS",
    "GUESTS",
    "Attention",
    "Recurrent",
    "Shortcut",
    "Task",
    "accuracy",
    "lone_drink",
    "orders",
    "train",
]

DRINKS = ("tea", "milk", "cola", "soda", "cocoa", "juice", "water", "mocha")
GUESTS = ("Ann", "Bob", "Cy", "Dee", "Eve", "Fay")
WHICH, PLACES, NAMES = len(DRINKS), len(DRINKS) + 1, len(DRINKS) + 7  # "which?", six places, then the names
NOTHING = -1  # stands before the sentence, in a window


class Task(NamedTuple):
    """Sentences and what is asked about them."""

    words: Tensor  # (S, N, L)
    questions: Tensor  # (S, N, Q), each a word
    answers: Tensor  # (S, N, Q), each a drink
    every: int  # each question is asked after every so many words: M = L / every
    counts: Tensor  # (M, Q), True where the answer has been read by then


def orders(
    S: int,
    N: int,
    generator: torch.Generator,
    *,
    by: str = "name",
    shuffled: bool = True,
    present: int = 6,
    names: int = 6,
) -> Task:
    """Sentences in which guests order, and questions about each of them after each order.

    Args:
        S, N: networks, and sentences for each.
        generator: of the sentences; its device is theirs.
        by: "name" or "place", which the questions give.
        shuffled: whether the guests come in random order; else always in the same one.
        present: guests in a sentence.
        names: guests of whom they are drawn.

    Returns:
        The task; L = 2 · present, M = Q = present, and question q is about the guest at place q.

    >>> task = orders(1, 2, torch.Generator().manual_seed(0))
    >>> task.words.shape, task.counts.sum()
    (torch.Size([1, 2, 12]), tensor(21))
    """
    device = generator.device
    guests = torch.arange(names, device=device).expand(S, N, names)
    if shuffled:
        guests = torch.rand(S, N, names, generator=generator, device=device).argsort(-1)
    guests = guests[..., :present] + NAMES
    drinks = torch.randint(len(DRINKS), guests.shape, generator=generator, device=device)
    words = torch.stack([guests, drinks], -1).flatten(2)
    questions = guests if by == "name" else (PLACES + torch.arange(present, device=device)).expand_as(guests)
    counts = torch.ones(present, present, dtype=torch.bool, device=device).tril()
    return Task(words, questions, drinks, 2, counts)


def lone_drink(S: int, N: int, generator: torch.Generator, *, places: range, length: int = 10) -> Task:
    """Sentences of names with one drink at one of ``places`` (from 0), and the question which drink it was.

    >>> task = lone_drink(1, 2, torch.Generator().manual_seed(0), places=range(3, 4), length=5)
    >>> bool((task.words[..., 3] == task.answers[..., 0]).all()), task.every
    (True, 5)
    """
    device = generator.device
    words = torch.randint(NAMES, NAMES + len(GUESTS), (S, N, length), generator=generator, device=device)
    answers = torch.randint(len(DRINKS), (S, N, 1), generator=generator, device=device)
    chosen = torch.randint(places.start, places.stop, (S, N, 1), generator=generator, device=device)
    words.scatter_(2, chosen, answers)
    questions = torch.full_like(answers, WHICH)
    return Task(words, questions, answers, length, torch.ones(1, 1, dtype=torch.bool, device=device))


class Linear(nn.Module):
    """S maps side by side, with the initialisation of torch.nn.Linear."""

    def __init__(self, S: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(S, inputs, outputs).uniform_(-(inputs**-0.5), inputs**-0.5))
        self.bias = nn.Parameter(torch.empty(S, 1, outputs).uniform_(-(inputs**-0.5), inputs**-0.5))

    def forward(self, x: Tensor) -> Tensor:  # (S, ..., inputs)
        """Apply each network's map to its own part of x."""
        return torch.baddbmm(self.bias, x.flatten(1, -2), self.weight).unflatten(1, x.shape[1:-1])


class Embedding(nn.Module):
    """S tables side by side: for each word a vector; the last row is for no word at all."""

    def __init__(self, S: int, names: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(S, NAMES + names + 1, width))

    def forward(self, words: Tensor) -> Tensor:  # (S, ...)
        """Look every word up in its network's table."""
        rows = self.weight.shape[1]
        row = (words % rows).flatten(1)[..., None].expand(-1, -1, self.weight.shape[2])  # NOTHING, -1, is the last
        return self.weight.gather(1, row).view(*words.shape, -1)


class Recurrent(nn.Module):
    """Reads word after word into one state; a question is read as one more word.

    Args:
        S: networks.
        kind: "RNN" or "GRU"; the equations are those of torch.nn.
        width: of the state and of the word vectors.
        hidden: units of a further layer between state, question and answer; none if 0.
        first: whether the question comes before the sentence instead.
    """

    def __init__(self, S: int, kind: str, width: int, *, hidden: int = 0, first: bool = False) -> None:
        super().__init__()
        self.kind, self.width, self.first = kind, width, first
        parts = {"RNN": 1, "GRU": 3}[kind]
        self.embedding = Embedding(S, len(GUESTS), width)
        self.input, self.recurrent = Linear(S, width, parts * width), Linear(S, width, parts * width)
        self.hidden = Linear(S, 2 * width, hidden) if hidden else None
        self.answer = Linear(S, hidden or width, len(DRINKS))

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """The next state, from a word that went through `input` and the state before it."""
        u = self.recurrent(h)
        if self.kind == "RNN":
            return torch.tanh(x + u)
        W = self.width
        r, z = torch.sigmoid(x[..., : 2 * W] + u[..., : 2 * W]).chunk(2, -1)
        return z * h + (1 - z) * torch.tanh(x[..., 2 * W :] + r * u[..., 2 * W :])

    def states(self, words: Tensor) -> Tensor:  # (S, N, L)
        """The state after each word (S, N, L, W)."""
        h, states = torch.zeros(*words.shape[:2], self.width, device=words.device), []
        for x in self.input(self.embedding(words)).unbind(2):
            h = self.step(x, h)
            states.append(h)
        return torch.stack(states, 2)

    def forward(self, task: Task) -> Tensor:
        """Scores of the drinks (S, N, M, Q, D)."""
        N, Q = task.questions.shape[1:]
        if self.first:  # each question has its own reading
            words = torch.cat([task.questions[..., None], task.words[:, :, None].expand(-1, -1, Q, -1)], -1)
            states = self.states(words.flatten(1, 2))[:, :, task.every :: task.every]
            return self.answer(states.unflatten(1, (N, Q)).transpose(2, 3))
        states = self.states(task.words)[:, :, task.every - 1 :: task.every, None]
        states, asked = states.expand(-1, -1, -1, Q, -1), self.embedding(task.questions)[:, :, None]
        if self.hidden is None:
            return self.answer(self.step(self.input(asked), states))
        return self.answer(torch.relu(self.hidden(torch.cat([states, asked.expand_as(states)], -1))))


class Shortcut(nn.Module):
    """A bag of all words, or a window of the last ones, and the question, through one hidden layer.

    Args:
        S: networks.
        window: words in view; all of them in a bag if None.
        width: of the word vectors.
    """

    def __init__(self, S: int, window: int | None, width: int) -> None:
        super().__init__()
        self.window, self.embedding = window, Embedding(S, len(GUESTS), width)
        self.summary, self.question = Linear(S, width * (window or 1), 32), Embedding(S, len(GUESTS), 32)
        self.answer = Linear(S, 32, len(DRINKS))

    def forward(self, task: Task) -> Tensor:
        """Scores of the drinks (S, N, M, Q, D)."""
        if self.window is None:
            read = self.embedding(task.words).cumsum(2)[:, :, task.every - 1 :: task.every]
        else:
            x = self.embedding(F.pad(task.words, (self.window, 0), value=NOTHING))
            ends = range(task.every, x.shape[2] - self.window + 1, task.every)
            read = torch.stack([x[:, :, end : end + self.window].flatten(2) for end in ends], 2)
        hidden = self.summary(read)[:, :, :, None] + self.question(task.questions)[:, :, None]
        return self.answer(torch.relu(hidden))


class Attention(nn.Module):
    """Keeps every word; a question is compared with all words read so far, at once.

    Args:
        S: networks.
        width: of the vectors.
        label: whether each word is labelled with the word to its left; without it, order is unknown.
        names: guests in the vocabulary.
    """

    def __init__(self, S: int, width: int, *, label: bool = True, names: int = len(GUESTS)) -> None:
        super().__init__()
        self.embedding = Embedding(S, names, width)
        self.left = Embedding(S, names, width) if label else None
        self.query, self.key, self.value = (Linear(S, width, width) for _ in range(3))
        self.answer = Linear(S, width, len(DRINKS))

    def weights(self, task: Task) -> Tensor:
        """How much each question looks at each word (S, N, M, Q, L), summing to 1 over the words."""
        keys = self.embedding(task.words)
        if self.left is not None:
            keys = keys + F.pad(self.left(task.words[..., :-1]), (0, 0, 1, 0))
        scores = self.query(self.embedding(task.questions)) @ self.key(keys).mT / keys.shape[-1] ** 0.5
        place = torch.arange(scores.shape[-1], device=scores.device)
        unread = place > place[task.every - 1 :: task.every, None]  # (M, L)
        return scores[:, :, None].masked_fill(unread[:, None], float("-inf")).softmax(-1)

    def forward(self, task: Task) -> Tensor:
        """Scores of the drinks (S, N, M, Q, D)."""
        return self.answer(self.weights(task) @ self.value(self.embedding(task.words))[:, :, None])


def train(
    reader: nn.Module,
    make: Callable[[int, int, torch.Generator], Task],
    rates: Tensor,
    updates: int,
    seed: int,
    N: int = 64,
) -> None:
    """Let every network learn from its own sentences: guess, loss, nudge, repeat.

    AdamW as in torch.optim with its default betas and decay, each network's gradient clipped to norm 1, the rate
    falling in a line to a fiftieth.

    Args:
        reader: whose parameters begin with the axis of S networks.
        make: function of (S, N, generator) that returns a task.
        rates: learning rate of each network (S).
        updates: how many nudges.
        seed: of the sentences.
        N: sentences a network sees in one update.
    """
    parameters = list(reader.parameters())
    device, S = parameters[0].device, len(rates)
    generator = torch.Generator(device).manual_seed(seed)
    means, squares = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    done = torch.zeros((), device=device)

    def update() -> None:
        task = make(S, N, generator)
        loss = losses(reader(task), task).sum()
        gradients = torch.autograd.grad(loss, parameters)
        norms = sum(g.flatten(1).square().sum(1) for g in gradients).sqrt()  # type: ignore[union-attr]
        clip = (1 / (norms + 1e-6)).clamp(max=1)[:, None, None]
        rate = (rates * (1 - 0.98 * done / updates))[:, None, None]
        done.add_(1)
        with torch.no_grad():
            for p, g, mean, square in zip(parameters, gradients, means, squares, strict=True):
                mean.lerp_(g * clip, 0.1)
                square.lerp_((g * clip).square(), 0.001)
                step = mean / (1 - 0.9**done) / ((square / (1 - 0.999**done)).sqrt() + 1e-8)
                p.sub_(rate * (step + 0.01 * p))

    repeat(update, updates, generator)


def repeat(update: Callable[[], None], times: int, generator: torch.Generator) -> None:
    """Call ``update`` so often; on a GPU as one captured graph, which saves the start of its many small kernels."""
    if generator.device.type != "cuda":
        for _ in range(times):
            update()
        return
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        update()
        update()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):  # records one update and runs none
        update()
    for _ in range(times - 2):
        graph.replay()


def losses(scores: Tensor, task: Task) -> Tensor:
    """Mean cross-entropy of each network over the questions that count (S)."""
    S, N, M, _, _ = scores.shape
    answers = task.answers[:, :, None].expand(-1, -1, M, -1)
    each = F.cross_entropy(scores.flatten(0, -2), answers.flatten(), reduction="none").view(S, N, M, -1)
    return (each * task.counts).sum((1, 2, 3)) / (N * task.counts.sum())


@torch.no_grad()
def accuracy(
    reader: nn.Module, make: Callable[[int, int, torch.Generator], Task], S: int, seed: int, N: int = 2000
) -> Tensor:
    """Share of right answers at each moment to each question (S, M, Q), over N new sentences; NaN where none counts."""
    generator = torch.Generator(next(reader.parameters()).device).manual_seed(seed)
    parts = []
    for _ in range(4):
        task = make(S, N // 4, generator)
        parts.append((reader(task).argmax(-1) == task.answers[:, :, None]).double().mean(1))
    share = torch.stack(parts).mean(0)
    return share.masked_fill(~task.counts, float("nan")).cpu()
