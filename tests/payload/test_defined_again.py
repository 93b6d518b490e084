# ruff: noqa: S301 - what a test pickled it may unpickle
"""A Struct class that a notebook cell or importlib.reload defined again is the same type."""

from __future__ import annotations

import importlib
import pickle
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Channel, LayoutMismatch, MemFd, SysVMessageQueue, Topic
from ipckit.rpc import Client, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.testing import Namespace

SOURCE = """
from ipckit import Char, Int, Struct

class Point(Struct):
    x: Int

class Stu(Struct):
    name: Char[8]
    at: Point

class Twin(Struct):  # the fields of Stu
    name: Char[8]
    at: Point
"""


@pytest.fixture
def cell(ns: Namespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module that `importlib.reload` defines again."""
    name = f"cell_{ns.name()[1:].replace('-', '_')}"
    (ns.directory / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(ns.directory))
    yield importlib.import_module(name)
    del sys.modules[name]


def again(cell: Any) -> tuple[Any, Any, Any]:
    """An instance of the old class, and the old and the new class."""
    old = cell.Stu
    value = old("amy", cell.Point(1))
    importlib.reload(cell)
    assert old is not cell.Stu
    return value, old, cell.Stu


def test_instances_are_equal_if_the_name_of_the_class_is_too(cell: Any) -> None:
    value, _, new = again(cell)
    assert value == new("amy", cell.Point(1))
    assert value != new("bob", cell.Point(1))
    assert value != cell.Twin("amy", cell.Point(1))
    assert new("eve", value.at).at == value.at


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_the_old_class_are_of_the_new_one(cell: Any, protocol: int) -> None:
    before = pickle.dumps(cell.Stu("amy", cell.Point(1)), protocol)
    value, old, new = again(cell)
    for data in (before, pickle.dumps(value, protocol)):
        found = pickle.loads(data)
        assert (type(found), found) == (new, value)
    assert pickle.loads(pickle.dumps(old, protocol)) is new


def test_a_pickle_of_other_fields_is_refused(cell: Any, ns: Namespace) -> None:
    value = cell.Stu("amy", cell.Point(1))
    data = pickle.dumps(value)
    path = ns.directory / f"{cell.__name__}.py"
    path.write_text(SOURCE.replace("Char[8]", "Char[16]"))
    importlib.reload(cell)
    with pytest.raises(LayoutMismatch, match="Stu has other fields than the class that was"):
        pickle.loads(data)
    with pytest.raises(pickle.PicklingError, match="Stu was defined again with other fields"):
        pickle.dumps(value)


def test_channels_topics_and_shared_structs_take_both(cell: Any) -> None:
    value, old, new = again(cell)
    other = new("amy", cell.Point(1))
    with Channel.anonymous(old) as channel:
        channel.send(other)
        channel.send_many([value, other])
        assert channel.receive() == other
        assert len(channel.receive_many()) == 2
    with Topic.anonymous(old) as topic, topic.subscribe() as messages:
        topic.publish(other)
        assert messages.receive() == value
    with MemFd.create("again", 4096) as memory:
        memory.shared(old).store(other)
        assert memory.shared(new).load() == value


def test_a_queue_of_several_types_takes_both(cell: Any, ns: Namespace) -> None:
    old, twin = cell.Stu, cell.Twin
    value, _, new = again(cell)
    with SysVMessageQueue.create(ns.key(), {1: old, 2: twin}) as queue:
        queue.send(new("amy", cell.Point(1)))
        queue.send(cell.Twin("bob", cell.Point(2)))  # the same fields, and another name
        assert queue.receive(cell.Twin, timeout=0).mtype == 2
        assert queue.receive(new, timeout=0).value == value


def test_services_take_both(cell: Any, ns: Namespace) -> None:
    value, old, new = again(cell)

    def twice(stu: Any) -> Any:
        return new(stu.name, cell.Point(2 * stu.at.x))

    twice.__annotations__ = {"stu": old, "return": old}
    with Service.create(ns.name()[1:]) as service:
        service.method(twice)
        thread = threading.Thread(target=service.serve)
        thread.start()
        with Client.open(service.name) as client:
            for each in (value, new("amy", cell.Point(1))):
                assert client.call("twice", each, timeout=60).at.x == 2
        service.close()
        thread.join()
