"""A quiz that says, for each choice, whether it is right and why. It needs no kernel, and no script to be answered.

JupyterQuiz 2.9.6 was tried first and is not used. Its choices are radio buttons without a group name or a question
tied to them; the feedback is never announced (no aria attribute or role anywhere in it); right and wrong differ by
colour alone where a choice has no text of its own for it; nothing at all is there without JavaScript; it loads MathJax
from another host where it finds none; and its ids are random, so that an unchanged notebook changes. Here a question
is a fieldset of native radio buttons or check boxes, the style sheet shows the feedback of a checked one, and a short
script adds only the announcement and the score.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .markup import checked_text, static, to_html, to_plain


@dataclass(frozen=True)
class Choice:
    """One choice of a question; made by `right` and `wrong`.

    >>> right("4", "2 + 2").is_right
    True
    """

    text: str
    feedback: str
    is_right: bool


@dataclass(frozen=True)
class Question:
    """One question with its choices; made by `ask`.

    >>> Question("2 + 2?", (right("4", "yes"), wrong("5", "no")), None).instruction
    'Choose one.'
    """

    text: str
    choices: tuple[Choice, ...]
    reveal: str | None

    @property
    def instruction(self) -> str:
        """How many choices to take, in words."""
        count = sum(choice.is_right for choice in self.choices)
        return "Choose one." if count == 1 else f"Choose {count}."


def right(text: str, feedback: str) -> Choice:
    """Return a right choice.

    Args:
        text: the choice; `code`, *emphasis*, <sub> and <sup> are allowed, here and in every text of a quiz.
        feedback: why it is right, shown once it is chosen.

    Returns:
        The choice, for `ask`.

    Raises:
        TypeError: a text is not a string.
        ValueError: a text is empty or holds dollar maths.

    >>> right("0.9", "0.9 to the 100th is 0.00003.").is_right
    True
    """
    return choice(text, feedback, is_right=True)


def wrong(text: str, feedback: str) -> Choice:
    """Return a wrong choice.

    Args:
        text: the choice.
        feedback: what it overlooks, shown once it is chosen.

    Returns:
        The choice, for `ask`.

    Raises:
        TypeError: a text is not a string.
        ValueError: a text is empty or holds dollar maths.

    >>> wrong("1.1", "It is above 1: the product grows.").is_right
    False
    """
    return choice(text, feedback, is_right=False)


def choice(text: str, feedback: str, is_right: bool) -> Choice:
    """Return a checked choice."""
    text = checked_text("right" if is_right else "wrong", text)
    return Choice(text, checked_text(f"the feedback of choice {text!r}", feedback), is_right)


def ask(text: str, *choices: Choice, reveal: str | None = None) -> Question:
    """Return a question for `quiz`.

    Args:
        text: the question.
        choices: two or more, of which one or several are right.
        reveal: an explanation that the reader can open at any time.

    Returns:
        The question. With one right choice it is answered by radio buttons, with several by check boxes.

    Raises:
        TypeError: a choice was not made by `right` or `wrong`.
        ValueError: fewer than two choices, none right, or two with the same text.

    >>> ask("Which vanishes?", right("0.9", "Below 1."), wrong("1.1", "Above 1.")).instruction
    'Choose one.'
    """
    who = f"ask {checked_text('ask', text)!r}"
    for given in choices:
        if not isinstance(given, Choice):
            raise TypeError(f"{who}: expected choices made by right(...) or wrong(...), got {given!r}")
    if len(choices) < 2:
        raise ValueError(f"{who}: expected at least two choices, got {len(choices)}; add right(...) and wrong(...)")
    if not any(given.is_right for given in choices):
        raise ValueError(f"{who}: expected a right choice, got {len(choices)} wrong ones; mark one with right(...)")
    texts = [given.text for given in choices]
    if twice := sorted({given for given in texts if texts.count(given) > 1}):
        raise ValueError(f"{who}: expected different choices, got {twice[0]!r} more than once; reword one")
    return Question(text.strip(), choices, None if reveal is None else checked_text(f"the reveal of {who}", reveal))


@dataclass(frozen=True, repr=False)
class Quiz:
    """Questions that are shown together; made by `quiz` and `predict`.

    >>> Quiz((Question("2 + 2?", (right("4", "yes"), wrong("5", "no")), None),), "sums", "Question")
    Question. 2 + 2? Choose one.
       ( ) 4
       ( ) 5
    """

    questions: tuple[Question, ...]
    name: str
    title: str

    def __repr__(self) -> str:
        """Return the questions and their choices, without the answers."""
        lines = []
        for number, question in enumerate(self.questions, 1):
            mark = "( )" if question.instruction == "Choose one." else "[ ]"
            lines.append(f"{self.label(number)}. {to_plain(question.text)} {question.instruction}")
            lines += [f"   {mark} {to_plain(given.text)}" for given in question.choices]
        return "\n".join(lines)

    def label(self, number: int) -> str:
        """Return what stands before a question: the title alone where there is one question only."""
        return self.title if len(self.questions) == 1 else f"{self.title} {number}"

    def _repr_html_(self) -> str:
        fieldsets = "".join(self._fieldset(number, question) for number, question in enumerate(self.questions, 1))
        # The status is for screen readers, which do not hear of a paragraph that a style sheet shows.
        return (
            f'<div class="seqlab-quiz" id="quiz-{self.name}" role="group" aria-label="{escape(self.title)}">'
            f"<style>{static('quiz.css')}</style>{fieldsets}"
            '<p class="score" hidden></p><p class="status" role="status"></p>'
            f"<script>{static('quiz.js')}</script></div>"
        )

    def _fieldset(self, number: int, question: Question) -> str:
        kind = "radio" if question.instruction == "Choose one." else "checkbox"
        rows = []
        for n, given in enumerate(question.choices, 1):
            key = f"quiz-{self.name}-{number}-{n}"
            # hidden keeps the feedback out of sight where a viewer drops the style sheet
            rows.append(
                f'<div class="choice"><input type="{kind}" id="{key}" name="quiz-{self.name}-{number}"'
                f"{' data-right' if given.is_right else ''}>"
                f'<label for="{key}">{to_html(given.text)}</label>'
                f'<p class="feedback {"right" if given.is_right else "wrong"}" hidden>'
                f"<strong>{'Right.' if given.is_right else 'Not right.'}</strong> {to_html(given.feedback)}</p></div>"
            )
        reveal = ""
        if question.reveal is not None:
            reveal = f"<details><summary>Explanation</summary><p>{to_html(question.reveal)}</p></details>"
        return (
            f"<fieldset><legend><strong>{escape(self.label(number))}.</strong> {to_html(question.text)} "
            f'<span class="instruction">{question.instruction}</span></legend>{"".join(rows)}{reveal}</fieldset>'
        )


def quiz(questions: Sequence[Question], *, name: str) -> Quiz:
    """Return a quiz, to be the last expression of a cell.

    Args:
        questions: what `ask` returned, one or more.
        name: the quiz's name, unique on its page: the ids are made from it.

    Returns:
        The quiz, with a text form that does not give the answers away.

    Raises:
        TypeError: a question was not made by `ask`.
        ValueError: no question, or a name that cannot be an id.

    >>> quiz([ask("Which vanishes?", right("0.9", "Below 1."), wrong("1.1", "Above 1."))], name="products")
    Question. Which vanishes? Choose one.
       ( ) 0.9
       ( ) 1.1
    """
    if isinstance(questions, Question) or not all(isinstance(question, Question) for question in questions):
        raise TypeError(f"quiz {name!r}: expected a list of questions made by ask(...), got {questions!r}")
    if not questions:
        raise ValueError(f"quiz {name!r}: expected at least one question, got none; add ask(...)")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ValueError(f"quiz: expected a name of a-z, 0-9 and hyphens, got {name!r}; ids are made from it")
    return Quiz(tuple(questions), name, "Question")


def predict(text: str, *choices: Choice, measured: str, name: str = "predict") -> Quiz:
    """Return the question that opens a chapter: the reader commits to an answer before the chapter measures it.

    Args:
        text: the question.
        choices: as for `ask`.
        measured: where the chapter measures it, a clause that each feedback ends in.
        name: the quiz's name, unique on its page.

    Returns:
        A quiz of one question.

    Raises:
        TypeError: as `ask`.
        ValueError: as `ask` and `quiz`.

    >>> predict("Which vanishes?", right("0.9", "Below 1."), wrong("1.1", "Above 1."), measured="in section 1")
    Predict. Which vanishes? Choose one.
       ( ) 0.9
       ( ) 1.1
    """
    where = f"Measured {checked_text('predict: measured', measured).rstrip('.')}."
    told = [
        Choice(given.text, f"{given.feedback} {where}", given.is_right) if isinstance(given, Choice) else given
        for given in choices
    ]
    return Quiz(quiz([ask(text, *told)], name=name).questions, name, "Predict")
