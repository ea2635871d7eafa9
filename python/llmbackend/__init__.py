"""Send text to large language models, one prompt or ten million, through one small API.

Importing this package imports no SDK, no engine and no Pydantic.
"""

from ._batch import Batch, BatchItem, CompletedBatch
from ._client import (
    Client,
    client,
    create_batch,
    fetch_batch_results,
    get_batch,
    get_batch_status,
    get_response,
)
from ._config import GenerationConfig
from ._core import Usage, __version__
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
    UnsupportedParameterWarning,
)

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
