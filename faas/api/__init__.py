"""The control API: JSON under /v1, health, metrics and its own OpenAPI description."""
