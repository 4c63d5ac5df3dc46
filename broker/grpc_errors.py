"""How an error of the one table ends a gRPC call: a status, a sentence, and the number in the trailing metadata."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import grpc

from ..proto.errors import ERROR_TABLE, ErrorCode, KafkaError

ERROR_CODE_KEY: Final = "klamm-error-code"

Context = grpc.aio.ServicerContext[Any, Any]


async def abort(context: Context, code: ErrorCode, message: str = "") -> NoReturn:
    """Ends the call with the status that the table gives for `code`."""
    info = ERROR_TABLE[code]
    status = grpc.StatusCode[info.grpc_status]
    await context.abort(status, f"{code.name}: {message or info.message}", ((ERROR_CODE_KEY, str(int(code))),))
    raise AssertionError("abort returned")


async def abort_with(context: Context, error: KafkaError) -> NoReturn:
    await abort(context, error.error_code, str(error))
