"""Finds the handler in a folder of code: the rules of the README, and errors that say what was there."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from faas._app import MARK

from faas_runtime.faults import LoadError

NAMES = ("handler", "main", "handle", "lambda_handler")
MODULES = ("main", "handler", "function", "app", "lambda_function", "index")


class Found:
    """A handler, the module it is in, and how a person would write it down."""

    def __init__(self, module: ModuleType, attribute: str, target: Callable[..., Any]) -> None:
        self.module = module
        self.target = target
        self.label = f"{module.__name__}:{attribute}"


def load(code: str, handler: str, function: str) -> Found:
    """Import the code and find the handler.

    Args:
        code: folder of the code, on sys.path already.
        handler: `module:attribute`, `module`, or empty: look for it.
        function: name of the function, which decides between several.

    Raises:
        LoadError: there is none. Whatever else the user's module raises comes through.
    """
    name, _, attribute = handler.partition(":")
    if not name:
        name = _find_module(code, function)
    module = _import(code, name)
    if not attribute:
        return _find_handler(module, function)
    target: Any = module
    for part in attribute.split("."):
        target = getattr(target, part, None)
    if target is None:
        raise LoadError(
            f'module "{name}" has no attribute "{attribute}"',
            f"It has: {', '.join(_public(module)) or 'nothing public'}. Name one as --handler {name}:NAME.",
        )
    return Found(module, attribute, _callable(target, f"{name}:{attribute}"))


def _find_module(code: str, function: str) -> str:
    files = sorted(f[:-3] for f in os.listdir(code) if f.endswith(".py") and not f.startswith((".", "__")))
    packages = [f for f in os.listdir(code) if os.path.isfile(os.path.join(code, f, "__init__.py"))]
    if len(files) == 1:
        return files[0]
    wanted = [function, function.replace("-", "_"), *MODULES]
    for name in wanted:
        if name in files or name in packages:
            return name
    if not files and len(packages) == 1:
        return packages[0]
    if not files and not packages:
        raise LoadError("the code has no Python file at its top", "Push a .py file, or the folder that has one.")
    raise LoadError(
        f"cannot tell which of these has the handler: {', '.join([*files, *sorted(packages)][:20])}",
        "Name it as --handler MODULE:FUNCTION, or call the file main.py.",
    )


def _import(code: str, name: str) -> ModuleType:
    """Import by name; a file that is called like a module that is loaded already goes under another one."""
    path = os.path.join(code, name + ".py")
    if name in sys.modules and os.path.isfile(path):
        alias = f"function_{name}"
        spec = importlib.util.spec_from_file_location(alias, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[alias] = module
        spec.loader.exec_module(module)
        return module
    try:
        __import__(name)  # not import_module: that would add its own frame to the traceback of the user's code
        return sys.modules[name]
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            files = ", ".join(sorted(os.listdir(code))[:20])
            raise LoadError(f'there is no module "{name}"', f"The code has: {files}.") from None
        raise


def _find_handler(module: ModuleType, function: str) -> Found:
    marked = _marked(module)
    if len(marked) == 1:
        return Found(module, *marked[0])
    for attribute, target in marked:
        names = (getattr(target, MARK).get("name"), attribute, attribute.replace("_", "-"))
        if function in names:
            return Found(module, attribute, target)
    if marked:
        raise LoadError(
            f'none of the functions of "{module.__name__}" is called "{function}"',
            f"It has: {', '.join(a for a, _ in marked)}. Name one as --handler {module.__name__}:NAME.",
        )
    for attribute in NAMES:
        candidate = getattr(module, attribute, None)
        if callable(candidate):
            return Found(module, attribute, candidate)
    raise _nothing(module)


def _nothing(module: ModuleType) -> LoadError:
    name = module.__name__
    if callable(getattr(module, "app", None)):
        return LoadError(
            f'module "{name}" has only an `app`, and this runtime does not serve ASGI or WSGI applications',
            "Write a plain handler: def handler(event): ...",
        )
    return LoadError(
        f'module "{name}" has no handler: none of {", ".join(NAMES)}, and nothing marked @faas.function',
        f"Write def handler(event): ..., or name yours as --handler {name}:NAME. "
        f"It has: {', '.join(_public(module)) or 'nothing public'}.",
    )


def _marked(module: ModuleType) -> list[tuple[str, Callable[..., Any]]]:
    """Functions of this module with our decorator, once each, in the order of the file."""
    found, seen = [], set()
    for attribute, value in vars(module).items():
        try:
            own = MARK in vars(value) and callable(value)
        except TypeError:
            continue
        if own and getattr(value, "__module__", module.__name__) == module.__name__ and id(value) not in seen:
            seen.add(id(value))
            found.append((attribute, value))
    return found


def _public(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", "") == module.__name__
    ][:20]


def _callable(target: Any, label: str) -> Callable[..., Any]:
    if not callable(target):
        raise LoadError(f'"{label}" is a {type(target).__name__}, which cannot be called', "Name a function.")
    return target  # type: ignore[no-any-return]
