"""Rules of every component."""

from __future__ import annotations

import dataclasses
import json

from harness.coercion import fill, signature
from harness.contract.rule import Candidate, need, rule
from harness.keys import key_of


@rule("", "it is a frozen dataclass that can be imported and made, and its hooks fit the boundary")
def fits(candidate: Candidate) -> str:
    component = candidate.component
    _ = candidate.hooks
    return f"{type(component).__name__} of {candidate.configured.distribution} {candidate.configured.version}"


@rule("", "its class has a docstring of its own, which `bench info` shows")
def documented(candidate: Candidate) -> str:
    component = type(candidate.component)
    text = (component.__dict__.get("__doc__") or "").strip()
    need(not text.startswith(f"{component.__name__}("), "it has none")  # what dataclass writes where there is none
    need(len(text) > 20, f"it is {text!r}; a sentence that says what this is, is needed")
    return text.splitlines()[0]


@rule("", "it can be made without naming a parameter")
def defaults(candidate: Candidate) -> str:
    component = type(candidate.component)
    component()
    return f"{len(dataclasses.fields(component))} parameters"


@rule("", "its parameters are typed and come back from JSON as they were, the content key too")
def parameters(candidate: Candidate) -> str:
    component = candidate.component
    hints = signature(type(component))
    untyped = {field.name for field in dataclasses.fields(component)} - set(hints)
    need(not untyped, f"no parameter from outside: {', '.join(sorted(untyped))}; fields with init=True are needed")
    values = {name: getattr(component, name) for name in hints}
    again = fill(type(component), json.loads(json.dumps(values)), candidate.name)
    need(again == component, f"it comes back as {again!r}, it was {component!r}")
    need(hash(again) == hash(component), "it comes back equal, but with another hash")
    need(key_of({name: getattr(again, name) for name in hints}) == key_of(values), "it comes back with another key")
    return ", ".join(hints) or "none"


@rule("", "its repr tells every parameter")
def representation(candidate: Candidate) -> str:
    component = candidate.component
    told = repr(component)
    hidden = [
        field.name
        for field in dataclasses.fields(component)
        if f"{field.name}={getattr(component, field.name)!r}" not in told
    ]
    need(not hidden, f"{', '.join(hidden)} missing from {told}")
    return told
