"""What chapters use of seqbook: claims, quizzes, cards and checks, and what each says to bad input."""

from __future__ import annotations

import builtins
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from seqbook import ask, cards, check, claim, claims, close_to, predict, quiz, registry, right, wrong
from seqbook.markup import to_html, to_plain

VOID = {"input", "br", "hr", "img", "meta", "link"}
ENTRY = {"told": "a < b", "url": "https://example.org/?a=1&b=2", "chapter": "01-one"}
REGISTRY = {
    "true-one": {**ENTRY, "statement": "It “holds” & <always>.", "verdict": "holds"},
    "true-with-caveat": {**ENTRY, "statement": "It holds, mostly.", "verdict": "holds with a caveat"},
    "undecided-one": {**ENTRY, "statement": "It may hold.", "verdict": "not shown here"},
    "false-one": {**ENTRY, "statement": "It fails.", "verdict": "fails"},
}


class Tree(HTMLParser):
    """Reads HTML, and refuses an end tag that does not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def shown(monkeypatch):
    """The claims that were displayed, with a registry of three claims."""
    boxes: list = []
    monkeypatch.setattr(claims, "registry", lambda: REGISTRY)
    monkeypatch.setattr("IPython.display.display", boxes.append)
    return boxes


def two_questions():
    return quiz(
        [
            ask("Which is *right*?", right("`a`", "It is."), wrong("b < c", "It is not."), reveal="a<sub>t</sub>"),
            ask("Which two?", right("one", "Yes."), wrong("two", "No."), right("three", "Yes.")),
        ],
        name="two",
    )


# --- claims


@pytest.mark.parametrize(
    ("id", "holds", "caveat", "verdict"),
    [
        ("true-one", True, None, "holds"),
        ("true-one", np.True_, "", "holds"),
        ("true-with-caveat", torch.tensor(True), "only below 10 steps", "holds with a caveat"),
        ("undecided-one", None, None, "not shown here"),
        ("undecided-one", None, "12 words only", "not shown here"),
        ("false-one", False, None, "fails"),
        ("false-one", False, "it was said to be", "fails"),
    ],
)
def test_claim_shows_the_verdict_and_its_data(shown, id, holds, caveat, verdict):
    assert claim(id, holds=holds, measured="ratio 1e-20", seeds=5, caveat=caveat) is None
    text, html = repr(shown[0]), shown[0]._repr_html_()
    assert "\n" not in text
    assert f": {verdict}. Measured: ratio 1e-20 (5 seeds)." in text
    box = Tree(html).of("div")[0]
    assert box["id"] == f"claim-{id}"
    data = json.loads(box["data-claim"])
    assert (data["id"], data["verdict"], data["measured"], data["seeds"]) == (id, verdict, "ratio 1e-20", 5)
    assert data["statement"] == REGISTRY[id]["statement"]
    assert f"Verdict: {verdict}." in html


@pytest.mark.parametrize(
    ("id", "holds", "caveat", "found"),
    [
        ("true-one", False, None, "fails"),
        ("true-one", True, "only at noon", "holds with a caveat"),
        ("true-with-caveat", True, None, "holds"),
        ("true-one", None, None, "not shown here"),
        ("undecided-one", False, None, "fails"),
        ("false-one", True, None, "holds"),
    ],
)
def test_a_changed_verdict_raises_and_says_what_to_do(shown, id, holds, caveat, found):
    with pytest.raises(claims.ClaimChanged) as caught:
        claim(id, holds=holds, measured="ratio 0.7", seeds=1, caveat=caveat)
    for part in [repr(id), repr(REGISTRY[id]["verdict"]), repr(found), "ratio 0.7 (1 seed)", "claims.toml", "prose"]:
        assert part in str(caught.value)
    assert shown == []


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"id": "false-on"}, ValueError, "got 'false-on'; did you mean false-one"),
        ({"id": "zzz"}, ValueError, "did you mean"),
        ({"holds": 1}, TypeError, "expected holds to be a bool, got int 1"),
        ({"holds": torch.tensor([True, False])}, TypeError, "expected holds to be a bool, got Tensor"),
        ({"holds": np.array([True, False])}, TypeError, "expected holds to be a bool, got ndarray"),
        ({"holds": torch.tensor(0.5)}, TypeError, "expected holds to be a bool, got Tensor"),
        ({"measured": 0.5}, TypeError, "expected measured to be a string, got float 0.5"),
        ({"measured": " "}, ValueError, "expected a measurement, got ' '"),
        ({"measured": f"ratio {float('nan'):.1e}"}, ValueError, "expected a number, got 'ratio nan'"),
        ({"seeds": 2.0}, TypeError, "expected seeds to be an int, got float"),
        ({"seeds": 0}, ValueError, "expected seeds >= 1, got 0"),
    ],
)
def test_claim_refuses_what_decides_nothing(shown, kwargs, error, message):
    given = {"id": "true-one", "holds": True, "measured": "1"} | kwargs
    with pytest.raises(error, match=re.escape(message)):
        claim(given.pop("id"), **given)
    assert shown == []


def test_claim_prints_where_there_is_no_ipython(monkeypatch, capsys):
    plain = builtins.__import__

    def without_ipython(name, *args, **kwargs):
        if name.startswith("IPython"):
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(claims, "registry", lambda: REGISTRY)
    monkeypatch.setattr(builtins, "__import__", without_ipython)
    claim("false-one", holds=False, measured="3 of 3")
    assert capsys.readouterr().out == "Claim “It fails.”: fails. Measured: 3 of 3.\n"


def test_the_registry_is_well_formed():
    for entry in registry().values():
        assert entry["url"].startswith("https://")
        assert re.fullmatch(r"\d\d-[a-z-]+", entry["chapter"])
        assert entry["statement"][-1] in ".”"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["Bad id"]\nverdict = "holds"', "expected an id of a-z, 0-9 and hyphens, got 'Bad id'"),
        ('[one]\nverdict = "holds"', "expected [one] to have chapter, statement, told, url, verdict, got verdict"),
        (
            '[one]\nstatement = "a"\ntold = "b"\nurl = "c"\nchapter = "d"\nverdict = "maybe"',
            "expected the verdict of [one] to be one of holds, holds with a caveat, fails, not shown here, got 'maybe'",
        ),
    ],
)
def test_a_malformed_registry_names_the_entry(tmp_path, text, message):
    path = tmp_path / "claims.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        registry(path)


# --- quizzes and cards


def test_every_choice_is_labelled_grouped_and_has_its_own_feedback():
    tree = Tree(two_questions()._repr_html_())
    inputs, labels = tree.of("input"), tree.of("label")
    assert [i["type"] for i in inputs] == ["radio"] * 2 + ["checkbox"] * 3
    assert [i["id"] for i in inputs] == [label["for"] for label in labels]
    assert len({i["id"] for i in inputs}) == 5
    assert [i["name"] for i in inputs] == ["quiz-two-1"] * 2 + ["quiz-two-2"] * 3
    assert len(tree.of("fieldset")) == len(tree.of("legend")) == 2
    feedback = [p for p in tree.of("p") if "feedback" in (p.get("class") or "")]
    assert len(feedback) == 5
    assert all("hidden" in p for p in feedback)
    assert [p["role"] for p in tree.of("p") if "role" in p] == ["status"]


def test_a_quiz_says_right_and_wrong_in_words_and_asks_no_other_host():
    html = two_questions()._repr_html_()
    assert html.count("<strong>Right.</strong>") == 3
    assert html.count("<strong>Not right.</strong>") == 2
    assert "//" not in re.sub(r"<script>.*</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"https?:|\bsrc=|@import|url\(", html)


def test_a_quiz_is_the_same_bytes_each_time_and_its_text_gives_no_answer_away():
    assert two_questions()._repr_html_() == two_questions()._repr_html_()
    assert repr(two_questions()) == (
        "Question 1. Which is *right*? Choose one.\n   ( ) `a`\n   ( ) b < c\n"
        "Question 2. Which two? Choose 2.\n   [ ] one\n   [ ] two\n   [ ] three"
    )


def test_predict_says_where_the_answer_is_measured():
    opening = predict("Which?", right("a", "Yes."), wrong("b", "No."), measured="in section 3.")
    html = opening._repr_html_()
    assert html.count("Measured in section 3.") == 2
    assert 'aria-label="Predict"' in html
    assert repr(opening).startswith("Predict. Which?")


@pytest.mark.parametrize("thing", [two_questions(), cards([("a", "b")])], ids=["quiz", "cards"])
def test_ipython_shows_html_and_text(thing):
    data, _ = DisplayFormatter().format(thing)
    assert {"text/html", "text/plain"} <= set(data)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: ask("q", wrong("a", "x"), wrong("b", "y")),
            ValueError,
            "ask 'q': expected a right choice, got 2 wrong",
        ),
        (lambda: ask("q", right("a", "x")), ValueError, "expected at least two choices, got 1"),
        (lambda: ask("q", right("a", "x"), wrong("a ", "y")), ValueError, "got 'a' more than once"),
        (lambda: ask("q", right("a", "x"), ("b", "y")), TypeError, "expected choices made by right(...) or wrong(...)"),
        (lambda: right("a", ""), ValueError, "the feedback of choice 'a': expected some text, got ''"),
        (lambda: wrong("a", None), TypeError, "the feedback of choice 'a': expected a string, got NoneType"),
        (lambda: wrong("$h_t$", "x"), ValueError, "expected text without dollar maths, got '$h_t$'"),
        (lambda: quiz([], name="x"), ValueError, "quiz 'x': expected at least one question, got none"),
        (lambda: quiz([{"question": "q"}], name="x"), TypeError, "expected a list of questions made by ask(...)"),
        (lambda: quiz([ask("q", right("a", "x"), wrong("b", "y"))], name="Two words"), ValueError, "got 'Two words'"),
        (lambda: predict("q", "a", measured="here"), TypeError, "expected choices made by right(...) or wrong(...)"),
        (lambda: cards([]), ValueError, "cards: expected at least one card, got none"),
        (lambda: cards(["ab"]), TypeError, "cards: expected pairs (term, text), got 'ab'"),
        (
            lambda: cards([("a", "x"), ("a", "y")]),
            ValueError,
            "cards: expected different terms, got 'a' more than once",
        ),
        (lambda: cards([("a", "")]), ValueError, "the card 'a': expected some text"),
    ],
)
def test_quiz_and_cards_refuse_what_a_reader_could_not_answer(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_cards_are_a_list_of_native_details():
    tree = Tree(cards([("gate", "a factor"), ("h<sub>t</sub>", "the state")])._repr_html_())
    assert len(tree.of("details")) == len(tree.of("summary")) == len(tree.of("li")) == 2
    assert tree.of("ul") == [{"role": "list"}]


@pytest.mark.parametrize(
    ("text", "html", "plain"),
    [
        ("a * b * c", "a * b * c", "a * b * c"),
        ("2*3*4 and `x*y*z`", "2*3*4 and <code>x*y*z</code>", "2*3*4 and `x*y*z`"),
        ("*one* and *two words*", "<em>one</em> and <em>two words</em>", "*one* and *two words*"),
        ("<script>x</script> & `<b>`", "&lt;script&gt;x&lt;/script&gt; &amp; <code>&lt;b&gt;</code>", None),
        ("10<sup>−3</sup> h<sub>t</sub>", "10<sup>−3</sup> h<sub>t</sub>", "10^−3 h_t"),
    ],
)
def test_markup(text, html, plain):
    assert to_html(text) == html
    assert to_plain(text) == (plain or text)


def test_money_is_not_maths():
    assert right("$20,000 against $2,000", "Yes.").text == "$20,000 against $2,000"


# --- exercises


@pytest.mark.parametrize("answer", [None, ...])
def test_no_answer_raises_nothing(capsys, answer):
    assert check(answer, (lambda a: a.shape, "has a shape"), name="Exercise 2") is None
    assert capsys.readouterr().out == "Exercise 2: No answer yet: put yours in and run the cell again.\n"


def test_the_first_hint_that_applies_is_printed(capsys):
    tests = [(lambda a: a > 0, "it is positive"), (lambda a: a < 1, lambda a: f"{a} is too large")]
    assert check(2, *tests) is False
    assert check(0.5, *tests, name="Exercise 3", note="So it vanishes.") is True
    assert capsys.readouterr().out == "Not yet: 2 is too large\nExercise 3: Right. So it vanishes.\n"


def test_a_predicate_that_raises_is_told_and_not_raised(capsys):
    assert check("three", (lambda a: a.shape == (3,), "it is a tensor of shape (3,)")) is False
    out = capsys.readouterr().out
    assert out.startswith("Not yet: it is a tensor of shape (3,) (checking it raised AttributeError: 'str'")


def test_a_tensor_predicate_with_several_elements_is_told(capsys):
    assert check(torch.ones(2), (lambda a: a > 0, "all are positive")) is False
    assert "RuntimeError: Boolean value of Tensor" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tests", "error", "message"),
    [
        ((), ValueError, "check: expected at least one test, got none"),
        ((lambda a: True,), TypeError, "check: expected tests (predicate, hint), got <function"),
        (((lambda a: True, 3),), TypeError, "check: expected tests (predicate, hint)"),
    ],
)
def test_check_refuses_tests_it_cannot_run(tests, error, message):
    with pytest.raises(error, match=re.escape(message)):
        check(1, *tests)


SQUARE = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("answer", "expected", "said"),
    [
        (SQUARE.clone().requires_grad_(), SQUARE, "Right."),
        (SQUARE.numpy(), SQUARE, "Right."),
        (SQUARE.long(), SQUARE.double(), "Right."),
        (2, 2.0, "Right."),
        ("2", 2.0, "Not yet: expected a tensor, array, list or number, got str"),
        (torch.ones(3), SQUARE, "Not yet: expected shape (2, 2), got (3,)"),
        (torch.ones(3, 2), torch.ones(2, 3), "Not yet: expected shape (2, 3), got (3, 2), the shape of its transpose"),
        (SQUARE.T, SQUARE, "Not yet: it is the transpose of what is expected"),
        (-SQUARE, SQUARE, "Not yet: the sign is reversed"),
        (torch.tensor([1.0, float("nan")]), [1.0, 2.0], "Not yet: it is NaN at [1]"),
        (float("inf"), 2.0, "Not yet: the largest difference is inf: expected about 2, got inf"),
        (
            torch.tensor([[1.0, 2.0], [3.5, 4.0]]),
            SQUARE,
            "Not yet: the largest difference is 0.5, at [1, 0]: expected about 3, got 3.5",
        ),
        (
            torch.tensor([0, 1]),
            [0.25, 1.0],
            "Not yet: the largest difference is 0.25, at [0]: expected about 0.25, got 0; "
            "its dtype is torch.int64, which holds no fractions",
        ),
        (torch.zeros(0), torch.zeros(0), "Right."),
    ],
)
def test_close_to_says_what_is_off(capsys, answer, expected, said):
    assert check(answer, close_to(expected)) is (said == "Right.")
    assert capsys.readouterr().out == said + "\n"


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (("two",), TypeError, "close_to: expected a tensor, array, list or number, got str"),
        ((float("nan"),), ValueError, "close_to: expected finite numbers, got nan"),
        ((1.0, -1e-6), ValueError, "close_to: expected atol >= 0, got -1e-06"),
        ((1.0, float("nan")), ValueError, "close_to: expected atol >= 0, got nan"),
    ],
)
def test_close_to_refuses_what_nothing_could_match(args, error, message):
    with pytest.raises(error, match=re.escape(message)):
        close_to(*args)
