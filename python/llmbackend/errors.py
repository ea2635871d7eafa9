"""Errors."""


class LLMBackendError(Exception):
    """Base."""


class ConfigurationError(LLMBackendError, ValueError):
    """Before anything is sent."""
