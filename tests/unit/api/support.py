"""A client of the API under test that speaks as someone."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient

from tests.unit.control.world import ADMIN


class Api:
    """`await api.call("GET", "/v1/status")` -> (status, decoded body)."""

    def __init__(self, client: TestClient[web.Request, web.Application]) -> None:
        self.client = client

    async def send(
        self, method: str, path: str, *, token: str | None = ADMIN, body: Any = None, data: Any = None
    ) -> ClientResponse:
        """The response as it came; `token` None: none is sent."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return await self.client.request(
            method, path, headers=headers, data=json.dumps(body).encode() if body is not None else data
        )

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """Status and decoded JSON, a list of objects for NDJSON, None for an empty body."""
        response = await self.send(method, path, **more)
        text = await response.text()
        if response.content_type == "application/x-ndjson":
            return response.status, [json.loads(line) for line in text.splitlines() if line.strip()]
        return response.status, json.loads(text) if text else None
