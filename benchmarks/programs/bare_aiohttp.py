"""The baseline: an aiohttp Application on uvloop with the same handler in the same process."""

import sys

import uvloop
from aiohttp import web


def handler(event):
    return {"hello": event.get("name", "world")}


async def hello(request):
    return web.json_response(handler(await request.json()))


app = web.Application()
app.router.add_post("/", hello)
uvloop.install()
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
