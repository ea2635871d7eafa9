"""Send text to large language models, one prompt or ten million, through one small API.

Importing this package imports no SDK, no engine and no Pydantic.
"""

from ._batch import Batch, BatchItem, CompletedBatch
from ._client import Client
from ._config import GenerationConfig
from ._core import Usage
from ._core import __version__ as _version
from ._functions import client, create_batch, fetch_batch_results, get_batch, get_batch_status, get_response
from ._response import Response
from ._sandbox import Sandbox, sandbox
from ._structured import StructuredOutput
from .errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BatchError,
    BatchFailedError,
    BatchItemsError,
    BatchNotCompletedError,
    BatchTimeoutError,
    ConfigurationError,
    ContentFilterError,
    EngineError,
    InvalidOutputError,
    InvalidRequestError,
    LLMBackendError,
    MissingDependencyError,
    NotFoundError,
    OutputError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    RefusalError,
    SchemaError,
    ServerError,
    TruncatedError,
    UnknownCreateError,
    UnsupportedParameterWarning,
)

__version__: str = _version

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AuthenticationError",
    "Batch",
    "BatchError",
    "BatchFailedError",
    "BatchItem",
    "BatchItemsError",
    "BatchNotCompletedError",
    "BatchTimeoutError",
    "Client",
    "CompletedBatch",
    "ConfigurationError",
    "ContentFilterError",
    "EngineError",
    "GenerationConfig",
    "InvalidOutputError",
    "InvalidRequestError",
    "LLMBackendError",
    "MissingDependencyError",
    "NotFoundError",
    "OutputError",
    "PermissionDeniedError",
    "QuotaExceededError",
    "RateLimitError",
    "RefusalError",
    "Response",
    "Sandbox",
    "SchemaError",
    "ServerError",
    "StructuredOutput",
    "TruncatedError",
    "UnknownCreateError",
    "UnsupportedParameterWarning",
    "Usage",
    "__version__",
    "client",
    "create_batch",
    "fetch_batch_results",
    "get_batch",
    "get_batch_status",
    "get_response",
    "sandbox",
]
