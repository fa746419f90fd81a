"""Tokens and the audit trail: handlers and their rows."""

from __future__ import annotations

from aiohttp import web

from faas.api.functions import check_filter
from faas.api.http import stream_lines
from faas.api.schemas import AuditQuery, TokenBody, TokenList
from faas.api.table import Call, Route
from faas.control.access import NewToken, TokenView
from faas.control.audit import AuditEntry
from faas.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from faas.names import parse_function


async def list_tokens(call: Call) -> TokenList:
    """Tokens that reach no further than the caller's apps; never the tokens themselves."""
    return TokenList(call.services.access.list(call.who))


async def create_token(call: Call) -> NewToken:
    """Make one; the reply is the only place where it can be read."""
    body: TokenBody = call.body
    where = "all apps" if body.apps is None else ", ".join(body.apps[:20])
    call.notes.detail = f"{body.name}: {', '.join(sorted(set(body.roles)))} in {where}"
    return await call.services.access.create(call.who, body.name, body.roles, body.apps, body.expires_s)


async def revoke_token(call: Call) -> TokenView:
    """End one."""
    call.notes.detail = call.path["token"]
    return await call.services.access.revoke(call.who, call.path["token"])


async def read_audit(call: Call) -> web.StreamResponse:
    """Entries about apps the caller sees, oldest first."""
    wanted: AuditQuery = call.query
    function = parse_function(wanted.function) if wanted.function else None
    check_filter(call.who, wanted.app)
    if function is not None:
        check_filter(call.who, function.app)
    entries = call.services.audit.read(
        call.who, app=wanted.app, function=function, limit=wanted.limit, follow=wanted.follow
    )
    return await stream_lines(call.request, entries, call.ending)


ACCESS = (
    Route(
        method="GET",
        path="/v1/tokens",
        handler=list_tokens,
        summary="List tokens without showing them",
        role="admin",
        reply=TokenList,
    ),
    Route(
        method="POST",
        path="/v1/tokens",
        handler=create_token,
        summary="Make a token no mightier than the caller's; it is shown once",
        role="admin",
        body=TokenBody,
        reply=NewToken,
        errors=(Invalid, Forbidden, Conflict, Unavailable),
    ),
    Route(
        method="DELETE",
        path="/v1/tokens/{token}",
        handler=revoke_token,
        summary="Revoke a token by name or id",
        role="admin",
        reply=TokenView,
        errors=(NotFound, Invalid, Conflict, Unavailable),
    ),
    Route(
        method="GET",
        path="/v1/audit",
        handler=read_audit,
        summary="Read or follow who changed what",
        role="read",
        query=AuditQuery,
        reply=AuditEntry,
        stream=True,
        errors=(Invalid, Unavailable),
    ),
)
