"""Which route a request takes: the grammar, the trie, and that size does not matter."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.names import FunctionName
from faas.policy.routing import Allowed, Claim, Match, Table
from faas.reach import RESERVED, origin_text, parse_rate, parse_route


def table(*routes: str) -> Table:
    """Each route belongs to a function called after its place: f0, f1, ..."""
    return Table(Claim(FunctionName("a", f"f{number}"), parse_route(route)) for number, route in enumerate(routes))


def owner(found: Match | Allowed | None) -> str | tuple[str, ...] | None:
    return found.function.name if isinstance(found, Match) else found.methods if found else None


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("get /users/{id}", "GET /users/{id}"),
        (" GET,post,GET  /a ", "GET,POST /a"),
        ("/", "/"),
        ("/a/", "/a/"),
        ("API.Example.com/x", "api.example.com/x"),
        ("GET localhost/files/*", "GET localhost/files/*"),
        ("/a rate=10/s body=1M", "/a rate=10/s body=1MiB"),
        ("/a body=1000 rate=5/m", "/a rate=5/m body=1000B"),
        ("/a=b/c;d", "/a=b/c;d"),
        ("/caf%C3%A9", "/caf%C3%A9"),
    ],
)
def test_normal_form(text: str, normal: str) -> None:
    assert parse_route(text).text == normal
    assert parse_route(normal) == parse_route(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "is not a route"),
        ("users", "is not a route"),
        ("GET", "is not a route"),
        ("FETCH /x", "does not start with one of GET"),
        ("GET POST /x", "is not a route"),
        ("/a//b", 'the segment ""'),
        ("/../x", 'the segment ".."'),
        ("/%2e%2E/x", 'the segment "%2e%2E"'),
        ("/a/*/b", 'the segment "*"'),
        ("/a*", 'the segment "a*"'),
        ("/{a}/{a}", "one name twice"),
        ("/{1}", 'the segment "{1}"'),
        ("/a%zz", "the segment"),
        ("/a?b", "the segment"),
        ("exa mple.com/x", "does not start with one of"),
        ("-x.com/x", 'the host "-x.com"'),
        ("example.com:80/x", 'the host "example.com:80"'),
        ("/x speed=3", 'goes on with "speed=3"'),
        ("/x rate=1/s rate=2/s", "once each"),
        ("/x rate=fast", '"fast" is not a rate'),
        ("/x rate=0/s", "is not a rate"),
        ("/x body=2GiB", "at most 1GiB"),
        ("/x body=", "is not a size"),
        ("/" + "a/" * 40, "too long"),
        ("/" + "a" * 600, "too long"),
        *((f"/{word}/x", "belongs to the platform") for word in sorted(RESERVED)),
        ("/%76%31/x", "belongs to the platform"),
        ("example.com/v1", "belongs to the platform"),
    ],
)
def test_what_is_no_route(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=re.escape(rule)):
        parse_route(text)


def test_the_most_specific_route_wins() -> None:
    routes = table(
        "/*", "/users/{id}", "/users/me", "/users/*", "/users/{id}/posts", "shop.test/users/{id}", "shop.test/*"
    )
    for host, path, wanted in (
        ("x", "/", "f0"),
        ("x", "/users", "f0"),
        ("x", "/users/", "f3"),
        ("x", "/users/me", "f2"),
        ("x", "/users/7", "f1"),
        ("x", "/users/7/posts", "f4"),
        ("x", "/users/me/posts", "f4"),
        ("x", "/users/me/other", "f3"),
        ("shop.test", "/users/me", "f5"),
        ("SHOP.test:8080", "/users/7/posts", "f6"),
        ("shop.test.", "/", "f6"),
        ("", "/users/7", "f1"),
        ("[::1]:80", "/users/7", "f1"),
    ):
        assert owner(routes.find("GET", host, path)) == wanted, (host, path)


def test_methods() -> None:
    routes = table("GET /users/{id}", "POST,PUT /users/me", "/any", "GET /any", "DELETE shop.test/users/{id}")
    assert owner(routes.find("GET", "", "/users/me")) == "f0", "its path is less specific, but it takes GET"
    assert owner(routes.find("PUT", "", "/users/me")) == "f1"
    assert owner(routes.find("DELETE", "", "/users/me")) == ("GET", "HEAD", "POST", "PUT")
    assert owner(routes.find("HEAD", "", "/users/1")) == "f0"
    assert owner(routes.find("GET", "", "/any")) == "f3"
    assert owner(routes.find("HEAD", "", "/any")) == "f3"
    assert owner(routes.find("BREW", "", "/any")) == "f2"
    assert owner(routes.find("GET", "shop.test", "/users/1")) == "f0", "the host's own route takes DELETE only"
    assert owner(routes.find("PATCH", "shop.test", "/users/1")) == ("DELETE", "GET", "HEAD")
    assert routes.find("GET", "", "/nothing") is None


def test_parameters_are_decoded_after_the_split() -> None:
    routes = table("/users/{id}", "/files/{kind}/*", "/caf%C3%A9/{x}")
    for path, wanted in (
        ("/users/a%2Fb", {"id": "a/b"}),
        ("/users/%C3%A9%20x", {"id": "é x"}),
        ("/users/%FF", {"id": "\ufffd"}),
        ("/files/img/a/b%2Fc/", {"kind": "img", "*": "a/b/c/"}),
        ("/files/img/", {"kind": "img", "*": ""}),
        ("/café/1", {"x": "1"}),
        ("/caf%c3%a9/1", {"x": "1"}),
    ):
        found = routes.find("GET", "", path)
        assert isinstance(found, Match), path
        assert found.params == wanted


@pytest.mark.parametrize(
    "path",
    [
        "/files/../etc",
        "/files/%2e%2e/etc",
        "/files/./x",
        "/users/..",
        "/v1/x",
        "/%761/functions",
        "/function/x",
        "/ui",
        "*",
        "",
    ],
)
def test_paths_that_climb_or_are_the_platforms_are_nobodys(path: str) -> None:
    assert table("/*", "/files/*", "/users/{id}").find("GET", "", path) is None


def test_a_long_path_costs_no_depth() -> None:
    found = table("/{a}/*").find("GET", "", "/x" * 5_000)
    assert isinstance(found, Match)
    assert len(found.params["*"]) == 2 * 4_999 - 1


def test_the_first_of_two_claims_has_it() -> None:
    assert owner(table("/x/{a}", "/x/{b}").find("GET", "", "/x/1")) == "f0"
    assert not Table()


def test_claims_leave_no_trace() -> None:
    routes = table("GET,POST /a/{x}/b", "/a/*", "shop.test/")
    before = repr_of(routes)
    claims = [
        Claim(FunctionName("a", "late"), parse_route(text), 1.0)
        for text in ("GET /a/{y}/b", "/a/{x}/c/*", "/a", "new.test/{a}", "shop.test/*", "/a/*")
    ]
    rivals = [routes.add(claim) for claim in claims]
    assert [rival and rival.function.name for rival in rivals] == ["f0", None, None, None, None, "f1"]
    assert owner(routes.find("GET", "", "/a/1/b")) == "f0", "the older one keeps it"
    assert owner(routes.find("GET", "", "/a/1/c/d")) == "late"
    for claim in claims:
        routes.remove(claim)
    assert repr_of(routes) == before
    gone = Table(claims)
    for claim in reversed(claims):
        gone.remove(claim)
    assert not gone


def test_who_is_next_takes_over() -> None:
    first, second = (Claim(FunctionName("a", name), parse_route("/x"), since) for name, since in (("b", 1), ("a", 2)))
    routes = Table([second, first])
    assert owner(routes.find("GET", "", "/x")) == "b"
    routes.remove(first)
    assert owner(routes.find("GET", "", "/x")) == "a"


def repr_of(routes: Table) -> object:
    """Everything a table holds, to compare."""

    def node(it: Any) -> object:
        return {key: node(below) for key, below in it.plain.items()}, it.here and node(it.here), it.ends, it.rest

    return {host: node(it) for host, it in routes._hosts.items()}


_WORDS = st.sampled_from(["a", "b", "{x}", "{y}", "c"])


@given(
    st.lists(st.lists(_WORDS, min_size=1, max_size=4, unique=True).map("/".join), min_size=1, max_size=12, unique=True),
    st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=4),
)
def test_like_trying_every_route(paths: list[str], parts: list[str]) -> None:
    """The trie finds what a list sorted by specificity would."""
    patterns = [parse_route("/" + path) for path in paths]
    fitting = [
        pattern
        for pattern in patterns
        if len(pattern.keys) == len(parts)
        and all(key in ("{", f"={part}") for key, part in zip(pattern.keys, parts, strict=True))
    ]
    best = min(fitting, key=lambda pattern: [key == "{" for key in pattern.keys], default=None)
    found = table(*("/" + path for path in paths)).find("GET", "", "/" + "/".join(parts))
    assert (best is None) == (found is None)
    if best is not None:
        assert isinstance(found, Match)
        assert found.pattern.keys == best.keys


@pytest.mark.parametrize(
    ("text", "burst", "per_s"), [("100/s", 100, 100.0), ("30 / m", 30, 0.5), ("7200/h", 7200, 2.0)]
)
def test_rates(text: str, burst: int, per_s: float) -> None:
    rate = parse_rate(text)
    assert (rate.burst, rate.per_s) == (burst, per_s)
    assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize("text", ["", "100", "0/s", "-1/s", "1/d", "1.5/s", "9999999999/s", "many/s"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate"):
        parse_rate(text)


def test_origins() -> None:
    assert origin_text(" HTTPS://App.Example.com:8443 ") == "https://app.example.com:8443"
    assert origin_text("*") == "*"
    assert origin_text("http://[::1]:3000") == "http://[::1]:3000"
    for wrong in ("", "null", "app.example.com", "https://app.example.com/", "https://*.example.com", "https://a b"):
        with pytest.raises(ValueError, match="is not an origin"):
            origin_text(wrong)
