"""The function that a stem cell practises on."""

from faas import Context


def handler(event: object, context: Context) -> object:
    return {"event": event, "left": context.remaining() > 0}
