"""The error table is whole and its parts agree."""

import grpc
import pytest
from klamm.proto.errors import ERROR_TABLE, ErrorCode, RetriableError, error_for


@pytest.mark.parametrize("code", [code for code in ErrorCode if code is not ErrorCode.NONE])
def test_each_code_has_one_exception_that_agrees_with_the_table(code: ErrorCode) -> None:
    info = ERROR_TABLE[code]
    error = error_for(code, "why")
    assert type(error) is info.exception
    assert error.error_code is code
    assert isinstance(error, RetriableError) is info.retriable is code.retriable
    assert str(error) == "why"
    assert str(error_for(code)) == info.message
    assert info.grpc_status in grpc.StatusCode.__members__


def test_a_number_of_a_later_version_is_an_unknown_server_error() -> None:
    assert ErrorCode.of(32000) is ErrorCode.UNKNOWN_SERVER_ERROR
