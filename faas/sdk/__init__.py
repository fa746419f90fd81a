"""The client side: what a handler's file may use locally, and the control API as Python calls."""
