"""Packages of a function: resolved into a recipe, and a recipe turned into a directory, with uv."""
