"""Entry point: run the command, and turn every end into one exit code and one clear message."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from faas.cli.root import root
from faas.cli.state import State

if TYPE_CHECKING:
    from faas.errors import FaasError


def main(arguments: Sequence[str] | None = None) -> None:
    """`faas`. Never returns: ends the process with a code of `faas.cli.exits`."""
    sys.exit(execute(sys.argv[1:] if arguments is None else list(arguments)))


def execute(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code."""
    from click.exceptions import Abort, Exit

    arguments = list(arguments) or ["--help"]
    # Known before parsing, so that a parse error is JSON too.
    state = State(json="--json" in arguments)
    if os.environ.get("NO_COLOR"):
        settings: dict[str, Any] = {"color": False}
    else:
        settings = {}
    try:
        result = root.main(arguments, prog_name="faas", standalone_mode=False, obj=state, **settings)
        sys.stdout.flush()
    except click.UsageError as error:
        return _usage(error, state)
    except click.ClickException as error:
        return _say(error.format_message(), "", _document("usage", error.format_message()), state, 2)
    except Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        return _say("interrupted", "", _document("interrupted", "interrupted"), state, 130)
    except BrokenPipeError:
        # The reader has what it wanted (`faas logs x | head`). Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        return _failure(error, state)
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def _failure(error: Exception, state: State) -> int:
    from faas.cli.exits import PLATFORM, exit_code
    from faas.errors import FaasError, problem

    if isinstance(error, FaasError):
        return _say(error.message, error.hint, problem(error), state, exit_code(error), _details(error))
    if os.environ.get("FAAS_DEBUG"):
        import traceback

        traceback.print_exc()
    message = f"internal: {type(error).__name__}: {error}"
    hint = "This is a fault of the faas command itself. Run it with FAAS_DEBUG=1 and report what it prints."
    return _say(message, hint, _document("internal", message, fault="platform"), state, PLATFORM)


def _usage(error: click.UsageError, state: State) -> int:
    """Wrong use of the command line. Its sentences after the first are the hint."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return 2
    message, _, rest = error.format_message().partition(". ")
    path = error.ctx.command_path if error.ctx else "faas"
    hint = rest.strip("()") or f"See {path} --help."
    return _say(message.rstrip("."), hint, _document("usage", message, hint), state, 2)


def _details(error: FaasError) -> str:
    """What stands above the error: the handler's traceback, and the call to look for in the logs."""
    lines = [str(error.extra.get("traceback") or "").rstrip()]
    if error.extra.get("call_id"):
        lines.append(f"  call: {error.extra['call_id']}")
    return "\n".join(line for line in lines if line)


def _document(code: str, detail: str, hint: str = "", fault: str = "caller") -> dict[str, Any]:
    document = {"code": code, "fault": fault, "detail": detail}
    return {**document, "hint": hint} if hint else document


def _say(message: str, hint: str, document: dict[str, Any], state: State, code: int, details: str = "") -> int:
    """One error on standard error, for people or as a JSON problem; returns `code`."""
    if state.json:
        import json

        click.echo(json.dumps(document, ensure_ascii=False, default=str), err=True)
        return code
    if details:
        click.echo(details, err=True)
    label = click.style("error:", fg="red", bold=True)
    color = False if os.environ.get("NO_COLOR") else None
    click.echo(f"{label} {message}", err=True, color=color)
    if hint:
        click.echo(f"  hint: {hint}", err=True)
    return code


if __name__ == "__main__":
    main()
