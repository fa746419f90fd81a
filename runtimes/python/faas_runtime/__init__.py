"""The Python runtime: a supervisor that never runs user code, and the child it forks, which does.

Speaks runtimes/PROTOCOL.md. Standard library and msgpack only; runs on Python 3.9 and later.
"""
