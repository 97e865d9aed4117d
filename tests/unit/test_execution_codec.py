from __future__ import annotations

import dataclasses
import typing
from enum import Enum
from fractions import Fraction
from types import UnionType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from videoprocess_server.execution.codec import RESULT_OF, CodecError, Failed, Message, Ready, decode, encode
from videoprocess_server.model import tasks

MESSAGES = typing.get_args(Message)


def of_type(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Values of an annotation, as MessagePack can carry them."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (UnionType, typing.Union):
        return st.one_of(*(of_type(argument) for argument in arguments))
    if origin is tuple and arguments[-1] is not Ellipsis:
        return st.tuples(*(of_type(argument) for argument in arguments))
    if origin is tuple:
        return st.lists(of_type(arguments[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(of_type(arguments[0]), of_type(arguments[1]), max_size=2)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(
            kind, **{field.name: of_type(hints[field.name]) for field in dataclasses.fields(kind)}
        )
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    return _LEAVES[kind]


_LEAVES: dict[typing.Any, st.SearchStrategy[typing.Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    str: st.text(max_size=5),
    bytes: st.binary(max_size=5),
    Fraction: st.fractions(),
    type(None): st.none(),
}


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_every_message_comes_back_as_it_was(kind: type[Message]) -> None:
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(of_type(kind))
    def comes_back(message: Message) -> None:
        assert decode(encode(message)) == message

    comes_back()


def test_every_task_of_the_model_has_an_answer() -> None:
    assert set(RESULT_OF) == set(typing.get_args(tasks.Task))
    assert set(RESULT_OF.values()) == set(typing.get_args(tasks.TaskResult))
    assert set(typing.get_args(tasks.TaskMessage)) <= set(MESSAGES)


@given(st.binary(max_size=64))
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode(data)


@pytest.mark.parametrize("position", range(0, 60, 3))
def test_a_damaged_message_is_refused_or_another_message(position: int) -> None:
    data = bytearray(encode(Failed(reason="INTERNAL", message="m" * 20)))
    data[position % len(data)] ^= 0xFF
    try:
        assert isinstance(decode(bytes(data)), Failed)
    except CodecError:
        return


def test_a_fraction_without_a_denominator_is_refused() -> None:
    whole = encode(tasks.AnalyzeTask(video=_video(Fraction(1, 7))))
    with pytest.raises(CodecError):
        decode(whole.replace(b"1/7", b"1/0"))


def test_a_message_of_no_known_class_is_refused() -> None:
    with pytest.raises(CodecError):
        decode(encode(Ready()).replace(b"Ready", b"Rowdy"))


def _video(time_base: Fraction) -> typing.Any:
    from contract.sample_tasks import VIDEO

    return dataclasses.replace(VIDEO, time_base=time_base)
