"""What starts instances: containers, sandboxed processes, and a scripted fake for tests. The contract is `api.py`."""
