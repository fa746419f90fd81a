"""Does it matter how many routes there are? The same requests to a table of 10 and to one of 10,000."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.harness import Report, Sample
from faas.names import FunctionName
from faas.policy.routing import Allowed, Claim, Match, Table
from faas.reach import parse_route

ROUNDS = 9
FEW, MANY = 10, 10_000
CALLS = 20_000
REQUESTS = (
    ("a parameter", "GET", "/users7/42/posts/9"),
    ("plain text", "GET", "/users3/about"),
    ("everything below", "GET", "/users5/files/a/b/c"),
    ("no route", "GET", "/nothing/like/it"),
    ("wrong method", "DELETE", "/users1/about"),
)


async def main() -> None:
    """Both tables in turn, round by round."""
    report = Report("routes")
    few, many = _table(FEW), _table(MANY)
    for what, method, path in REQUESTS:
        assert _kind(few, method, path) == _kind(many, method, path), path
        rounds = [(_cost_us(few, method, path), _cost_us(many, method, path)) for _ in range(ROUNDS)]
        ratio = Sample(tuple(crowded / alone for alone, crowded in rounds))
        cost = Sample(tuple(crowded for _, crowded in rounds))
        report.add(
            f"{what}: {MANY} routes / {FEW}, time a request",
            f"{ratio.show()}, {cost.median:.2f} us",
            "<= 1.25",
            ratio.median <= 1.25,
            ratio=ratio.median,
            us=cost.median,
        )
    made = [_made_ms(MANY) for _ in range(5)]
    changes = Sample(tuple(_changed_us(table) for table in (few, many) for _ in range(ROUNDS)))
    report.add("one route out and in again, us", changes.show(1), us=changes.median)
    report.add(f"making the table of {MANY} routes, ms", Sample(tuple(made)).show(1), ms=min(made))
    report.end()


def _routes(count: int) -> Sequence[str]:
    """The smaller table is part of the larger one."""
    first = [
        "GET /users7/{id}/posts/{post}", "/users5/files/*", "GET /users3/about", "GET /users1/about", "/users2/{id}",
        "POST /users7/{id}", "/users7/{id}/posts/latest", "shop.test/users7/{id}", "/users5/{id}/raw", "PUT /users8",
    ]  # fmt: skip
    kinds = ("GET /r{n}/{{id}}", "/r{n}/files/*", "POST /api/v{n}/items/{{item}}", "h{n}.test/about", "/api/{{x}}/t{n}")
    more = [kind.format(n=number) for number in range((count - len(first)) // len(kinds)) for kind in kinds]
    return first + more


def _table(count: int) -> Table:
    return Table(Claim(FunctionName("a", f"f{at}"), parse_route(route)) for at, route in enumerate(_routes(count)))


def _kind(table: Table, method: str, path: str) -> object:
    found = table.find(method, "127.0.0.1:8080", path)
    if isinstance(found, Match):
        return found.pattern, found.params
    return found.methods if isinstance(found, Allowed) else None


def _cost_us(table: Table, method: str, path: str) -> float:
    find = table.find
    begun = time.perf_counter()
    for _ in range(CALLS):
        find(method, "127.0.0.1:8080", path)
    return (time.perf_counter() - begun) / CALLS * 1e6


def _changed_us(table: Table) -> float:
    claim = Claim(FunctionName("a", "new"), parse_route("GET /users7/{id}/new/*"))
    begun = time.perf_counter()
    for _ in range(1_000):
        table.add(claim)
        table.remove(claim)
    return (time.perf_counter() - begun) * 1e3


def _made_ms(count: int) -> float:
    begun = time.perf_counter()
    _table(count)
    return (time.perf_counter() - begun) * 1e3
