"""What a plugin has to be: its class, what it says of itself, the hooks it offers, and what each of them gives back.

``bind`` puts these checks between the harness and a component: every call of a hook goes through them, so that what is
wrong is told by the name of the plugin and of the hook, with what was expected, wherever it is called from.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

from harness import gives, registry
from harness.errors import BenchError, BrokenPlugin, unknown
from harness.hookspecs import NEEDED, OLDEST, SPECS, VERSION
from harness.registry import Found

PLANNING = frozenset({"facts", "locate", "sources", "passes"})
"""Hooks that are called while a run is planned: what they raise is told in one line, and the run goes on beside it."""


class Hooks:
    """A component's hooks: call them by name and keyword. Each call is checked, see ``gives``.

    Raises BrokenPlugin for what a hook gives back that is not what it is to give, and for whatever a hook of
    ``PLANNING`` raises that is no BenchError.
    """

    def __init__(self, kind: str, component: object, relay: Any) -> None:
        self._kind, self._component, self._relay = kind, component, relay

    def offers(self, *names: str) -> bool:
        """Whether the component gives all of these hooks."""
        return all(getattr(self._relay, name).get_hookimpls() for name in names)

    def takes(self, name: str, argument: str) -> bool:
        """Whether the component's hook asks for this argument."""
        return any(argument in impl.argnames for impl in getattr(self._relay, name).get_hookimpls())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_") or name not in vars(SPECS[self._kind]):
            raise AttributeError(name)
        relayed = getattr(self._relay, name)
        look = gives.LOOKS[self._kind].get(name) if self.offers(name) else None

        def call(**given: Any) -> Any:
            try:
                result = relayed(**given)
            except BenchError:
                raise
            except Exception as error:
                if name not in PLANNING:
                    raise
                raise self._broken(name, f"raised {type(error).__name__}: {_first_line(error)}") from error
            wrong = look(result, given) if look else None
            if wrong:
                raise self._broken(name, f"gave {wrong.got}; {wrong.expected} is expected")
            return result

        setattr(self, name, call)
        return call

    def _broken(self, name: str, what: str) -> BrokenPlugin:
        method = written(getattr(type(self._component), name))
        return BrokenPlugin(f"{_who(self._kind, self._component)} breaks the boundary: {method} {what}")


def bind(kind: str, component: object) -> Hooks:
    """The component's hooks, held by pluggy against ``hookspecs``.

    Raises BrokenPlugin naming the hook for one that is misspelt, takes an unknown argument, or is missing, and the
    attribute for one that says what cannot be.
    """
    import pluggy

    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(SPECS[kind])
    who = f"{_who(kind, component)} breaks the boundary"
    try:
        manager.register(component, name=type(component).__name__)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        reason = _misfit(kind, component) or " ".join(str(error).split())
        raise BrokenPlugin(f"{who}: {reason}") from error
    hooks = Hooks(kind, component, manager.hook)
    missing = _missing(kind, hooks)
    if missing:
        unmarked = [name for name in vars(SPECS[kind]) if callable(vars(type(component)).get(name))]
        unmarked = [name for name in unmarked if not name.startswith("_") and not hooks.offers(name)]
        hint = f"; its {unmarked[0]} is not marked @hookimpl" if unmarked else ""
        raise BrokenPlugin(f"{who}: {missing}{hint}")
    if wrong := gives.said_wrong(kind, component, by_step=kind == "attacks" and hooks.offers("step")):
        raise BrokenPlugin(f"{who}: {wrong.got}; {wrong.expected} is expected")
    return hooks


def load(kind: str, name: str) -> type[Any]:
    """The component's class: exactly one plugin module is imported. Raises BrokenPlugin for a broken plugin."""
    found = registry.find(kind, name)
    try:
        component = registry.imported(found)
    except Exception as error:
        raise BrokenPlugin(f"{found.title} cannot be imported: {type(error).__name__}: {_first_line(error)}") from error
    check(found, component)
    return component


def check(found: Found, component: object) -> None:
    """Raises BrokenPlugin for what is no frozen dataclass, is of another boundary, or is an attack without norms."""
    who = found.title
    if not (inspect.isclass(component) and is_dataclass(component)):
        raise BrokenPlugin(f"{who}: {found.entry_point.value} is {component!r}; a frozen dataclass is needed")
    if not component.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise BrokenPlugin(f"{who}: the dataclass must be frozen, for its fields are part of the content key")
    made_for = getattr(component, "boundary", VERSION)
    if made_for not in range(OLDEST, VERSION + 1):
        raise BrokenPlugin(
            f"{who}: is made for version {made_for} of the boundary, this harness has {VERSION} and knows those from "
            f"{OLDEST} on; install the harness that it was made for, or a version of it made for this one"
        )
    if found.kind == "attacks" and not isinstance(getattr(component, "norms", None), tuple | property):
        raise BrokenPlugin(f"{who}: norms is missing; a tuple of the norms supported is needed, empty for none")


def expected(kind: str, hook: str) -> str:
    """A hook as a plugin may write it at most: ``perturb(self, problem, batch, threat, random)``."""
    return written(getattr(SPECS[kind], hook))


def written(method: Any) -> str:
    """A method's name and the names of its arguments."""
    return f"{method.__name__}({', '.join(inspect.signature(method).parameters)})"


def _who(kind: str, component: object) -> str:
    found = registry.origin(type(component))
    return found.title if found else f"plugin {type(component).__name__} ({kind})"


def _missing(kind: str, hooks: Hooks) -> str:
    """What a component would have to give beside what it gives; empty where that is enough."""
    ways = NEEDED[kind]
    whole = [way for way in ways if hooks.offers(*way)]
    if len(whole) > 1:
        return f"gives both {' and '.join(' with '.join(way) for way in whole)}; one of them is needed"
    lacking = [", ".join(expected(kind, name) for name in way if not hooks.offers(name)) for way in ways]
    return "" if whole else f"lacks {'; or else '.join(lacking)}"


def _misfit(kind: str, component: object) -> str:
    """Which marked method pluggy refuses, with what is found and what is expected; empty where none is seen."""
    known = [name for name in vars(SPECS[kind]) if not name.startswith("_")]
    for name, method in inspect.getmembers(type(component), lambda part: hasattr(part, "bench_impl")):
        if name not in known:
            return f"found {written(method)}; {unknown('hook', name, known)}"
        allowed = inspect.signature(getattr(SPECS[kind], name)).parameters
        wrong = [argument for argument in inspect.signature(method).parameters if argument not in allowed]
        if wrong:
            return f"found {written(method)}, where {wrong[0]!r} is unknown; expected {expected(kind, name)}, or less"
    return ""


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else "no message"
