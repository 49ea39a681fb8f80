"""What a rule of the contract is, what it is asked of, and what comes of it."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from harness import boundary, config
from harness.errors import BenchError
from harness.layers import Table
from harness.request import Configured


class Broken(Exception):
    """A rule that does not hold, and why."""


class DoesNotApply(Exception):
    """A rule that has nothing to say of this component, and why."""


class State(StrEnum):
    """What came of a rule."""

    OK = "ok"
    FAILED = "failed"
    OTHER = "does not apply"


@dataclass(frozen=True)
class Result:
    """What came of one rule. detail: the figure that was measured, or the reason."""

    rule: str
    sentence: str
    state: State
    detail: str


@dataclass(frozen=True, eq=False)  # its rules share what was made with it, so it is known by itself
class Candidate:
    """A component to be looked at: a name as it is given to ``bench run``, with parameters of its own.

    tables: a registry that the name may stand in. data: folders searched for a data set, beside those that always are.
    """

    kind: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tables: Table = field(default_factory=dict)
    data: Sequence[str] = ()

    @cached_property
    def configured(self) -> Configured:
        """Raises BenchError for a name that is unknown, for an ensemble, and for parameters that do not fit."""
        section = self.tables.get(self.kind, {})
        own = {**section.get(self.name, {}), **self.parameters}
        tables = {**self.tables, self.kind: {**section, self.name: own}} if own else self.tables
        made = config.configure(tables, self.kind, self.name)
        if made.component is None and not made.fault:
            raise BenchError(f"{self.kind}.{self.name}: consists of others; check its members one by one")
        return made

    @property
    def component(self) -> Any:
        """Raises Broken for a plugin that cannot be imported or breaks the boundary."""
        if self.configured.fault:
            raise Broken(self.configured.fault)
        return self.configured.component

    @cached_property
    def hooks(self) -> Any:
        return boundary.bind(self.kind, self.component)

    def says(self, attribute: str, default: Any = None) -> Any:
        return getattr(self.component, attribute, default)


Look = Callable[[Candidate], str]
"""Gives the figure that was measured; raises Broken or DoesNotApply."""


@dataclass(frozen=True)
class Rule:
    """kind: of components, empty for every one. slow: takes seconds where the component is large."""

    kind: str
    name: str
    sentence: str
    look: Look
    slow: bool = False


RULES: list[Rule] = []


def rule(kind: str, sentence: str, *, slow: bool = False) -> Callable[[Look], Look]:
    """Adds a rule that is named as the function below."""

    def add(look: Look) -> Look:
        RULES.append(Rule(kind, look.__name__, sentence, look, slow))
        return look

    return add


def need(holds: Any, reason: str) -> None:
    """Raises Broken with this reason unless ``holds``."""
    if not holds:
        raise Broken(reason)


@dataclass(frozen=True)
class Claim:
    """One rule about one component."""

    rule: Rule
    candidate: Candidate

    def __str__(self) -> str:
        return self.rule.name

    def result(self) -> Result:
        """Looks. Whatever the component raises breaks the rule; what is wrong with the request is raised."""
        state, detail = State.OK, ""
        _ = self.candidate.configured
        try:
            detail = self.rule.look(self.candidate)
        except DoesNotApply as reason:
            state, detail = State.OTHER, str(reason)
        except Exception as error:
            text = " ".join(str(error).split()) or "no message"
            plain = isinstance(error, Broken | BenchError)
            state, detail = State.FAILED, text if plain else f"{type(error).__name__}: {text}"
        return Result(self.rule.name, self.rule.sentence, state, detail)

    def assert_holds(self) -> None:
        """For a test: AssertionError where the rule is broken, a skipped test where it does not apply."""
        found = self.result()
        if found.state is State.OTHER:
            raise unittest.SkipTest(found.detail)
        assert found.state is State.OK, f"{self.candidate.name}: {found.rule}: {found.sentence}: {found.detail}"
