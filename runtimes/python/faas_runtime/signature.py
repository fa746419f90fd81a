"""How a handler wants to be called, read once from its signature."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from faas import Context, Request
from faas_runtime.events import decode
from faas_runtime.faults import LoadError

_REQUEST = ("faas.Request", "Request")
_CONTEXT = ("faas.Context", "Context")
Arguments = Callable[[list[Any], bytes, Context], list[Any]]


def is_async(target: Callable[..., Any]) -> bool:
    """True for coroutine functions, async generators, and objects whose `__call__` is one.

    Decorators are not looked through: one that runs a loop of its own around async code is plain.
    """
    while isinstance(target, functools.partial):
        target = target.func
    for candidate in (target, getattr(target, "__call__", None)):
        if inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate):
            return True
    return False


def arguments(target: Callable[..., Any], label: str) -> Arguments:
    """A function that makes the positional arguments of one call. Raises LoadError for a signature it cannot serve."""
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):  # built in: it has no signature to read
        return lambda head, body, context: [decode(head[5], head[4], body)]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    keywords = [p.name for p in parameters if p.kind == p.KEYWORD_ONLY and p.name in needed]
    if len(needed) > 2 or keywords:
        raise LoadError(
            f"{label} needs {len(needed)} arguments ({', '.join(needed)})",
            "A handler is def handler(event) or def handler(event, context); give the others defaults.",
        )
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return lambda head, body, context: [decode(head[5], head[4], body), context]
    makers = [_maker(p, first=i == 0) for i, p in enumerate(positional[: max(len(needed), _wanted(positional))])]
    if len(makers) == 1:
        only = makers[0]
        return lambda head, body, context: [only(head, body, context)]
    return lambda head, body, context: [make(head, body, context) for make in makers]


def _wanted(positional: list[inspect.Parameter]) -> int:
    """Parameters we fill: the first, and the second when it is needed or called like what we have."""
    if len(positional) < 2:
        return len(positional)
    second = positional[1]
    return 2 if second.default is second.empty or _is_context(second) else 1


def _maker(parameter: inspect.Parameter, first: bool) -> Callable[[list[Any], bytes, Context], Any]:
    if _is_context(parameter) or not first:
        return lambda head, body, context: context
    if parameter.name == "request" or parameter.annotation is Request or parameter.annotation in _REQUEST:
        return _request
    return lambda head, body, context: decode(head[5], head[4], body)


def _is_context(parameter: inspect.Parameter) -> bool:
    return parameter.name == "context" or parameter.annotation is Context or parameter.annotation in _CONTEXT


def _request(head: list[Any], body: bytes, _context: Context) -> Request:
    return Request(head[2], head[3], head[4], head[5], body, head[7], lambda: decode(head[5], head[4], body))
