"""The codes of storage errors, and who an error is about, do not depend on what data says."""

from __future__ import annotations

import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_strategy.filesystem import status
from spark_strategy.worker.postmortem import _is_about_peers as is_about_peers

# A path or a cell may say any of these.
WORDS = (
    "connection",
    "Connection refused",
    "Connection reset by peer",
    "Socket closed",
    "Collective ops is aborted by: Socket closed",
    "\nNode: 'x'\nCollective ops is aborted by: x",
    "StandbyException",
    "BlockMissing",
    "RPC error: org.apache.hadoop.ipc.StandbyException",
    "IOError(Os { code: 111",
    "is a directory",
)
GRAPH = "Graph execution error:\n\nDetected at node X defined at (most recent call last):\n\n"


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("RPC error: org.apache.hadoop.security.AccessControlException ", status.PERMISSION_DENIED),
        ('RPCError("java.io.FileNotFoundException", "', status.UNKNOWN),
        ("operation failed: ", status.UNKNOWN),
        ("something else about ", status.UNKNOWN),
    ],
)
def test_words_of_a_path_are_no_code(error: str, code: int, word: str) -> None:
    """Only the beginning of hdfs-native's text counts."""
    found, text = status.explain(RuntimeError(f"{error}/data/{word}"), "hdfs://h/p")

    assert found == code
    assert status.STORAGE not in text


@given(st.text())
def test_errors_of_python_have_the_code_of_their_class(said: str) -> None:
    """Whatever they say."""
    for kind, code in (
        (FileNotFoundError, status.NOT_FOUND),
        (PermissionError, status.PERMISSION_DENIED),
        (ValueError, status.INVALID_ARGUMENT),
        (ConnectionResetError, status.UNAVAILABLE),
    ):
        assert status.explain(kind(said), "p")[0] == code
    assert status.explain(KeyError(said), "p")[0] == status.UNKNOWN
    assert status.explain(OSError(errno.EHOSTUNREACH, said), "p")[0] == status.UNAVAILABLE


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("RPC error: org.apache.hadoop.ipc.StandbyException Operation category READ", 14),
        ('FatalRPCError("org.apache.hadoop.hdfs.server.namenode.SafeModeException", "x")', 14),
        ("RPC error: org.apache.hadoop.hdfs.protocol.DSQuotaExceededException x", 8),
        ("IO error occurred while communicating with HDFS: Connection refused (os error 111)", 14),
        ('IOError(Os { code: 111, kind: ConnectionRefused, message: "Connection refused" })', 14),
        ("blocks not found for /x", 14),
        ("All DataNodes failed: x", 14),
        ("path is a directory: /x", 9),
    ],
)
def test_hdfs_natives_own_words_are_understood(said: str, code: int) -> None:
    """The NameNode's answer by its Java class, and Rust's error of a failed connection."""
    assert status.explain(RuntimeError(said), "p")[0] == code
    assert status.explain(OSError(said), "p")[0] == code


def test_storage_that_does_not_answer_is_no_other_tasks_fault() -> None:
    """Though TensorFlow has the same class for both."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError) as refused:
            socket.create_connection(bound.getsockname(), timeout=5)
    code, text = status.explain(refused.value, "hdfs://h/p")

    assert code == status.UNAVAILABLE
    assert not is_about_peers("UnavailableError", f"{text} [Op:IteratorGetNext]")


@pytest.mark.parametrize("word", WORDS)
def test_an_operation_that_quotes_data_blames_nobody_else(word: str) -> None:
    """A cell that cannot be parsed, in a graph and outside of one; a generator's own exception."""
    for text in (
        f"StringToNumberOp could not correctly convert string: {word}",
        f"{{{{function_node __wrapped__}}}} could not convert string: {word} [Op:StringToNumber]",
        f"{GRAPH}Node: 'StringToNumber'\ncould not convert string: {word}",
    ):
        assert not is_about_peers("InvalidArgumentError", text)
    python = f"ConnectionResetError: {word}\nTraceback (most recent call last):\n"
    assert not is_about_peers("UnknownError", python)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("UnavailableError", "recvmsg:Connection reset by peer"),
        ("CancelledError", "anything"),
        ("AbortedError", "anything"),
        ("InternalError", "failed to connect to all addresses"),
        ("FailedPreconditionError", "The coordination service has shut down"),
        ("InvalidArgumentError", "{{function_node f}} Collective ops is aborted by: x"),
        ("InvalidArgumentError", f"{GRAPH}Node: 'C'\nCollective ops is aborted by: x"),
    ],
)
def test_what_the_runtime_says_of_other_tasks_is_about_them(kind: str, text: str) -> None:
    """By its class, and by the runtime's own words where no operation quotes data."""
    assert is_about_peers(kind, text)
