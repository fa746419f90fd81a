"""The error tree: every error a user can meet has a code of its own and a status that fits its fault."""

from __future__ import annotations

import ast
import importlib
from collections import Counter

import pytest

from faas import errors
from tests.house.source import module_name, python_files, tree


def _declares_errors(name: str) -> bool:
    known = {cls.__name__ for cls in errors.FaasError.__subclasses__() + errors.all_errors()}
    classes = (node for node in ast.walk(tree(name)) if isinstance(node, ast.ClassDef))
    return any(isinstance(base, ast.Name) and base.id in known for node in classes for base in node.bases)


# Errors are declared in one place, but nothing stops a room from adding its own.
for _name in filter(_declares_errors, python_files("faas")):
    importlib.import_module(module_name(_name))
TREE = [cls for cls in errors.all_errors() if cls.__module__.startswith("faas.")]
LOOP_DETECTED = 508


def test_codes_are_unique() -> None:
    counts = Counter(cls.code for cls in TREE)
    assert [code for code, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("cls", TREE)
def test_an_error_is_complete(cls: type[errors.FaasError]) -> None:
    assert "code" in vars(cls), "it would answer with its parent's code"
    assert "status" in vars(cls)
    assert (cls.fault == "caller") == (400 <= cls.status < 500 or cls.status == LOOP_DETECTED)
    assert issubclass(cls, errors.CallerError) == (cls.fault == "caller")
    assert issubclass(cls, errors.FunctionError) == (cls.fault == "function")


@pytest.mark.parametrize("cls", TREE)
def test_a_stranger_sees_code_fault_and_call_only(cls: type[errors.FaasError]) -> None:
    error = cls("the password is 1234", hint="ask Bob", extra={"traceback": "secret.py"})
    assert errors.problem(error, call_id="c-1", full=False) == {
        "status": cls.status,
        "code": cls.code,
        "fault": cls.fault,
        "call_id": "c-1",
    }
