"""Greets whoever calls.

Push it and call it:

    faas push examples/hello.py
    curl -d '{"name": "Ada"}' http://127.0.0.1:8080/function/hello
"""


def handler(event):
    """`event` is the decoded body (here a JSON object) or, without a body, the query."""
    name = event.get("name", "world") if isinstance(event, dict) else event
    return {"message": f"Hello, {name}!"}
