"""What a handler's file may use inside an instance. The same names as the client's `faas`, so one file serves both.

import faas

@faas.function(memory="512M")
def resize(request: faas.Request, context: faas.Context) -> faas.Response: ...
"""

from __future__ import annotations

from faas._app import App, function, on_start, on_stop
from faas._call import call
from faas._context import Context, current
from faas._errors import CallError, Cancelled, Retry
from faas._http import File, Headers, Request, Response
from faas._secrets import secret

__all__ = [
    "App", "CallError", "Cancelled", "Context", "File", "Headers", "Request", "Response", "Retry", "call",
    "current", "function", "on_start", "on_stop", "secret",
]  # fmt: skip
