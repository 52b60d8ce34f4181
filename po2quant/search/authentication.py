"""Who may take part in a search: who can read the token in its run folder, which goes along with every request."""

from __future__ import annotations

import functools
import hmac
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from po2quant.compat import keras_tuner_service
from po2quant.files import replaced_whole

TOKEN_FILE = "token"
UNAUTHENTICATED = "a request needs the token of the search, which is in its run folder"
_TOKEN_KEY, _WORKER_KEY = "po2quant-token", "po2quant-worker"
_TOKEN_BYTES, _TOKEN_LENGTH = 32, 43

_, _service = keras_tuner_service()


def make_token(folder: Path) -> str:
    """Return the token of a search; one that a chief before this one has made stays, and with it the workers.

    Args:
        folder: gets ``token``, which only the user who runs the search can read.
    """
    path = folder / TOKEN_FILE
    if not path.exists():
        with replaced_whole(path) as temporary:
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(_TOKEN_BYTES))
                file.flush()
                os.fsync(descriptor)
    return read_token(folder)


def read_token(folder: Path) -> str:
    """Return the token that the chief of a search has left in a folder.

    Raises:
        OSError: where it cannot be read.
        ValueError: where the file holds something else.
    """
    with open(folder / TOKEN_FILE, "rb") as file:
        token = file.read(_TOKEN_LENGTH + 1)
    if not re.fullmatch(rb"[A-Za-z0-9_-]{%d}" % _TOKEN_LENGTH, token):
        raise ValueError(f"{folder / TOKEN_FILE} must be the token of a search. It is not; remove it")
    return token.decode("ascii")


class TokenCheck(grpc.ServerInterceptor):
    """Refuses every request without the token, before its message is read.

    Args:
        token: of the search.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        """Return what answers a request."""
        given = dict(handler_call_details.invocation_metadata).get(_TOKEN_KEY, "")
        return continuation(handler_call_details) if hmac.compare_digest(given.encode(), self._token) else _REFUSAL


def _refuse(_messages: Any, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, UNAUTHENTICATED)


_REFUSAL = grpc.stream_unary_rpc_method_handler(_refuse)
"""As if for a stream of messages, of which none is waited for: who sends none occupies no thread."""


def worker_of(context: grpc.ServicerContext) -> str:
    """Return the id of the worker that sent a request."""
    return dict(context.invocation_metadata()).get(_WORKER_KEY, "")


def signed_stub(channel: grpc.Channel, token: str, worker_id: str) -> Any:
    """Return the stub of Keras Tuner's service, whose requests say who sends them.

    Args:
        channel: to the chief.
        token: of the search.
        worker_id: letters, digits, ``.``, ``_`` and ``-``.

    Raises:
        ValueError: for another id.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", worker_id):
        raise ValueError(
            f"the id of a worker must be 1 to 64 letters, digits, '.', '_' and '-'. Received: {worker_id[:200]!r}"
        )
    metadata = ((_TOKEN_KEY, token), (_WORKER_KEY, worker_id))
    stub = _service.OracleStub(channel)
    for name, request in vars(stub).items():
        setattr(stub, name, functools.partial(request, metadata=metadata))
    return stub
