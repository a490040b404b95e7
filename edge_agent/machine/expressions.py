"""Expressions over tags, parsed once to closures of a fixed, small grammar; nothing else exists in them.

Grammar: tag names, numbers, strings, `true false`, `and or not`, `== != < <= > >=` (chains allowed), `in [..]`,
`+ - * / %`, brackets, and the functions `abs(x) min(x, …) max(x, …) age(tag) changed_within(tag, s) rising(tag)
falling(tag) avg(tag, s)`; times are seconds.

Names: a `-` or `/` that touches a name on its left belongs to the name, so `a-b` and `meter/kwh` are tags and a
subtraction or division of tags needs spaces: `a - b`. A name that starts with a digit, or is one of the words
above, stands in backticks: `` `2nd` > 1 ``.

What they make of missing inputs is in `operations`.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

from edge_agent.machine import operations
from edge_agent.machine.operations import Evaluate, Inputs

MAX_LENGTH = 2_000
MAX_DEPTH = 40

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![A-Za-z0-9_])
  | (?P<string>'[^']*'|"[^"]*")
  | `(?P<quoted>[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)?)`
  | (?P<name>[A-Za-z_][A-Za-z0-9_-]*(?:/[A-Za-z0-9_-]+)?)
  | (?P<op><=|>=|==|!=|[<>+\-*/%()\[\],])
  | (?P<end>$)
    )""",
    re.VERBOSE | re.ASCII,
)
_WORDS = frozenset({"and", "or", "not", "in", "true", "false", "True", "False"})
_TAG_FUNCTIONS = {"age": 0, "rising": 0, "falling": 0, "changed_within": 1, "avg": 1}


class ExpressionError(ValueError):
    """The text is no expression. `offset` is the position of the fault in it, from 0."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class Expression(NamedTuple):
    """A parsed expression. `windows` are the tags `avg` needs the past of, with the longest time in seconds."""

    text: str
    tags: frozenset[str]
    windows: Mapping[str, float]
    evaluate: Evaluate

    def holds(self, inputs: Inputs) -> bool:
        """Whether it is true. Raises `Uncertain`."""
        return bool(self.evaluate(inputs))


def names(text: str) -> set[str]:
    """The tag references in the text, as written. Raises ExpressionError (a ValueError with `offset`)."""
    return set(parse(text).tags)


def parse(text: str, resolve: Callable[[str], str] = str) -> Expression:
    """Parse once; `resolve` turns a tag reference into the name the inputs know it by. Raises ExpressionError."""
    return _Parser(text, resolve).parse()


class _Token(NamedTuple):
    kind: str
    text: str
    offset: int


def _tokens(text: str) -> list[_Token]:
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression has at most {MAX_LENGTH} characters", MAX_LENGTH)
    tokens: list[_Token] = []
    position = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, position)
        if match is None:
            at = position + len(text[position:]) - len(text[position:].lstrip())
            raise ExpressionError(_complaint(text[at:]), at)
        kind = match.lastgroup or "end"
        tokens.append(_Token(kind, match[kind], match.start(kind)))
        position = match.end()
    return tokens


def _complaint(rest: str) -> str:
    if rest.startswith("="):
        return "a comparison is written =="
    if rest[0].isdigit():
        return "a name that starts with a digit stands in backticks"
    if rest[0] in "'\"`":
        return f"the {rest[0]} is never closed"
    return f"{rest[0]!r} has no meaning here"


class _Parser:
    """Recursive descent over the tokens; each method returns the closure of what it has read."""

    def __init__(self, text: str, resolve: Callable[[str], str]) -> None:
        self._text = text
        self._resolve = resolve
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0
        self._tags: set[str] = set()
        self._windows: dict[str, float] = {}

    def parse(self) -> Expression:
        evaluate = self._or()
        if self._peek().kind != "end":
            self._fail(f"{self._peek().text!r} is not expected here")
        return Expression(self._text, frozenset(self._tags), self._windows, evaluate)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _fail(self, message: str, token: _Token | None = None) -> NoReturn:
        raise ExpressionError(message, (token or self._peek()).offset)

    def _word(self, word: str) -> bool:
        token = self._peek()
        if token.kind == "name" and token.text == word:
            self._next += 1
            return True
        return False

    def _op(self, *texts: str) -> str | None:
        token = self._peek()
        if token.kind == "op" and token.text in texts:
            self._next += 1
            return token.text
        return None

    def _expect(self, text: str) -> None:
        if self._op(text) is None:
            self._fail(f"{text!r} is expected here")

    def _or(self) -> Evaluate:
        left = self._and()
        while self._word("or"):
            left = operations.either(left, self._and())
        return left

    def _and(self) -> Evaluate:
        left = self._not()
        while self._word("and"):
            left = operations.both(left, self._not())
        return left

    def _not(self) -> Evaluate:
        if self._word("not"):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                self._fail("nested too deeply")
            inner = self._not()
            self._depth -= 1
            return lambda inputs: not inner(inputs)
        return self._comparison()

    def _comparison(self) -> Evaluate:
        left = self._sum()
        result: Evaluate | None = None
        while True:
            if self._word("not"):
                if not self._word("in"):
                    self._fail("'in' is expected here")
                member = operations.member(left, self._list())
                step: Evaluate = lambda inputs, member=member: not member(inputs)  # type: ignore[misc]  # noqa: E731 - a bound default
            elif self._word("in"):
                step = operations.member(left, self._list())
            elif (text := self._op(*operations.COMPARE)) is not None:
                right = self._sum()
                step = operations.compare(operations.COMPARE[text], left, right)
                left = right
            else:
                return left if result is None else result
            result = step if result is None else operations.both(result, step)

    def _sum(self) -> Evaluate:
        left = self._product()
        while (text := self._op("+", "-")) is not None:
            left = operations.arithmetic(operator.add if text == "+" else operator.sub, left, self._product())
        return left

    def _product(self) -> Evaluate:
        left = self._unary()
        while (text := self._op("*", "/", "%")) is not None:
            op = {"*": operator.mul, "/": operator.truediv, "%": operator.mod}[text]
            left = operations.arithmetic(op, left, self._unary())
        return left

    def _unary(self) -> Evaluate:
        if self._op("-") is not None:
            self._depth += 1
            if self._depth > MAX_DEPTH:
                self._fail("nested too deeply")
            inner = self._unary()
            self._depth -= 1
            return lambda inputs: -operations.number(inner(inputs))
        return self._atom()

    def _atom(self) -> Evaluate:
        token = self._take()
        if token.kind == "number":
            return operations.constant(float(token.text) if re.search(r"[.eE]", token.text) else int(token.text))
        if token.kind == "string":
            return operations.constant(token.text[1:-1])
        if token.kind == "quoted":
            return self._tag(token)
        if token.kind == "name":
            if token.text in ("true", "True", "false", "False"):
                return operations.constant(token.text in ("true", "True"))
            if token.text in _WORDS:
                self._fail(f"{token.text!r} is not expected here", token)
            if self._peek() == _Token("op", "(", self._peek().offset):
                return self._call(token)
            return self._tag(token)
        if token.text == "(":
            self._depth += 1
            if self._depth > MAX_DEPTH:
                self._fail("nested too deeply", token)
            inner = self._or()
            self._depth -= 1
            self._expect(")")
            return inner
        return self._fail("a tag, a number or a text is expected here", token)

    def _list(self) -> Sequence[Evaluate]:
        opening = self._op("[", "(")
        if opening is None:
            self._fail("a list such as [1, 2] is expected after 'in'")
        items = [self._sum()]
        while self._op(",") is not None:
            items.append(self._sum())
        self._expect("]" if opening == "[" else ")")
        return items

    def _name(self, token: _Token) -> str:
        tag = self._resolve(token.text)
        self._tags.add(tag)
        return tag

    def _tag(self, token: _Token) -> Evaluate:
        tag = self._name(token)
        return lambda inputs: inputs.value(tag)

    def _call(self, function: _Token) -> Evaluate:
        self._expect("(")
        if function.text in _TAG_FUNCTIONS:
            return self._tag_call(function)
        apply = operations.VALUE_FUNCTIONS.get(function.text)
        if apply is None:
            known = ", ".join(sorted({*_TAG_FUNCTIONS, *operations.VALUE_FUNCTIONS}))
            self._fail(f"there is no function {function.text!r}; there are {known}", function)
        arguments = [self._or()]
        while self._op(",") is not None:
            arguments.append(self._or())
        self._expect(")")
        if function.text == "abs" and len(arguments) != 1:
            self._fail("abs takes one value", function)
        return lambda inputs: apply([argument(inputs) for argument in arguments])

    def _tag_call(self, function: _Token) -> Evaluate:
        token = self._take()
        if token.kind not in ("name", "quoted") or (token.text in _WORDS and token.kind == "name"):
            self._fail(f"{function.text} takes the name of a tag", token)
        tag = self._name(token)
        seconds = 0.0
        if _TAG_FUNCTIONS[function.text]:
            self._expect(",")
            number = self._take()
            if number.kind != "number" or not 0 < float(number.text) <= 86_400:
                self._fail(f"{function.text} takes seconds as its second value, up to 86400", number)
            seconds = float(number.text)
        self._expect(")")
        if function.text == "avg":
            self._windows[tag] = max(seconds, self._windows.get(tag, 0.0))
        return operations.tag_function(function.text, tag, seconds)
