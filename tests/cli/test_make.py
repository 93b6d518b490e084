"""`ipckit make` and `ipckit sem`, in this process."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ipckit
from ipckit import inventory
from ipckit.cli import main, run
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ipckit.testing import Namespace


Cli = Callable[..., tuple[int, str, str]]


KINDS = [kind for kind in inventory.KINDS if kind not in {"memfd", "socket"}]


def objects() -> tuple[inventory.IpcObject, ...]:
    return inventory.survey(KINDS, holders=False).objects


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], ns: Namespace) -> Iterator[Cli]:
    """Run a command line; return its status, standard output and standard error.

    At the end, what `make` made is removed, before `ns` looks for it.
    """
    del ns
    made: set[str] = set()

    def call(*words: object) -> tuple[int, str, str]:
        status = run([str(word) for word in words])
        out, err = capsys.readouterr()
        if words[0] == "make" and status == 0:
            made.add(out.strip())
        return status, out.strip(), err

    yield call
    for item in objects() if made else ():
        if item.address in made:
            inventory.remove(item, force=True)


def stat(address: str) -> inventory.IpcObject:
    return next(each for each in objects() if each.address == address)


# -- make ------------------------------------------------------------------------------------------


def test_system_v_objects(cli: Cli, ns: Namespace) -> None:
    key = int(ns.key())
    status, address, err = cli("make", "queue", "--key", f"{key:#x}", "--size", "1K", "--mode", 640)
    assert (status, err) == (0, "")
    queue = stat(address)
    assert (queue.kind, queue.key, queue.mode, queue.size) == ("sysv-queue", key, 0o640, 1024)
    assert queue.address == f"q:{queue.id}"
    _, address, _ = cli("make", "segment", "--size", "1.5K")
    assert (stat(address).kind, stat(address).size) == ("sysv-segment", 1536)
    assert stat(address).key
    _, address, _ = cli("make", f"s:{key:#x}", "--values", "1,0,3")
    assert (stat(address).used.values, stat(address).key) == ((1, 0, 3), key)


def test_posix_objects(cli: Cli, ns: Namespace) -> None:
    name = ns.name()
    assert cli("make", f"mq:{name}", "--messages", 5, "--message-size", "1K")[:2] == (
        0,
        f"mq:{name}",
    )
    details = stat(f"mq:{name}").details
    assert (details["maxmsg"], details["msgsize"]) == (5, 1024)
    assert cli("make", f"shm:{name}", "--size", "64KiB", "--mode", "0660")[1] == f"shm:{name}"
    assert (stat(f"shm:{name}").size, stat(f"shm:{name}").mode) == (65536, 0o660)
    assert cli("make", f"sem:{name[1:]}", "--values", 7)[1] == f"sem:{name}"
    assert stat(f"sem:{name}").used.values == (7,)
    status, random, _ = cli("make", "posix-semaphore")
    assert (status, random[:12]) == (0, "sem:/ipckit-")


def test_channels_and_topics_carry_the_type(cli: Cli, ns: Namespace) -> None:
    name = ns.name()[1:]
    words = ["--type", "f8", "--capacity", 16, "--overwrite"]
    assert cli("make", f"channel:{name}", *words)[:2] == (0, f"channel:{name}")
    # It works without the process that made it.
    with ipckit.Channel.open(name, np.float64) as sender:
        for number in range(17):
            sender.send(np.float64(number))
        assert sender.receive() == 1.0
    source = "typedef struct { char name[32]; int age; } Stu;"
    assert cli("make", f"topic:{name}", "--c", source, "--history", 1)[:2] == (0, f"topic:{name}")
    struct: Any = ipckit.Struct.from_c(source)
    with ipckit.Topic.open(name, struct) as topic:
        topic.publish(struct("amy", 20))
        with topic.subscribe(history=1) as subscription:
            assert subscription.receive(timeout=0).age == 20


def test_an_object_that_exists(cli: Cli, ns: Namespace) -> None:
    name = ns.name()
    for kind, *words in (["mq"], ["shm", "--size", "4K"], ["sem"], ["channel"], ["topic"]):
        address = f"{kind}:{name}"
        made = cli("make", address, *words)
        assert made[0] == 0
        status, out, err = cli("make", address, *words)
        assert (status, out) == (1, "")
        hint = f"to use it, add --exist-ok; to remove it: ipckit rm {address}\n"
        assert err.endswith(f"already exists; {hint}")
        assert cli("make", address, *words, "--exist-ok") == made


def test_an_object_that_exists_and_does_not_fit(cli: Cli, ns: Namespace) -> None:
    name, key = ns.name(), f"{int(ns.key()):#x}"
    cli("make", f"shm:{name}", "--size", "4K")
    assert (
        "has 4,096 bytes, and 8,192" in cli("make", f"shm:{name}", "--size", "8K", "--exist-ok")[2]
    )
    cli("make", f"channel:{name}", "--type", "str")
    assert "messages are str" in cli("make", f"channel:{name}", "--exist-ok")[2]
    _, queue, _ = cli("make", f"q:{key}", "--mode", "0660")
    status, _, err = cli("make", f"q:{key}", "--exist-ok")
    assert status == 1
    assert "at most the permissions of --mode" in err
    assert cli("make", f"q:{key}", "--exist-ok", "--mode", "0660") == (0, queue, "")
    assert f"to remove it: ipckit rm q:0x{int(key, 16):08x}\n" in cli("make", f"q:{key}")[2]


def test_an_object_whose_address_can_not_be_printed_is_removed(
    cli: Cli, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = ns.name()

    def full(_line: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert cli("make", f"sem:{name}")[0] == 0
    monkeypatch.setattr("ipckit._cli.commands.make.say", full)
    for address in (f"mq:{name}", f"channel:{name}"):
        assert cli("make", address)[0] == 1
    assert cli("make", f"sem:{name}", "--exist-ok")[0] == 1
    assert [each.kind for each in objects() if name[1:] in each.name] == ["posix-semaphore"]


def test_a_key_of_a_file(cli: Cli, tmp_path: Path) -> None:
    _, address, _ = cli("make", "queue", "--key", f"{tmp_path}:7")
    assert stat(address).key == ipckit.ftok(tmp_path, 7)
    assert cli("make", "q", "--key", f"{tmp_path}/none:7")[0] == 1


def test_a_limit_names_its_cure(cli: Cli) -> None:
    status, out, err = cli("make", "set", "--values", ",".join(["1"] * 32001))
    assert (status, out) == (1, "")
    assert "as root raise the first number of kernel.sem" in err


WRONG = [
    ("pipe", "'pipe' is not one of: q, m, s,"),
    ("mq:", "'mq:' is not one of"),
    ("q:5", "'5' is not a key such as q:0x4d2"),
    ("queue:/a", "an object with a name is mq:/NAME"),
    ("q:0x5 --key 6", "the key is given twice"),
    ("q --key 0", "without --key a free one is chosen"),
    ("q --key five", "'five' is not a key"),
    ("q --key /:300", "proj must be 1 to 255"),
    ("mq:/a --key 5", "mq has a name and no key"),
    ("shm:/a", "shm needs a size"),
    ("m --size 12X", "'12X' is not a size such as"),
    ("m --size 0", "'0' is not a size from 1 byte"),
    ("m --size 9999999T", "is not a size from 1 byte"),
    ("q --mode 999", "'999' is not a mode"),
    ("s --values 1,,2", "'1,,2' is not a list of values"),
    ("s --values 40000", "must be 0 to 32767"),
    ("sem --values 1,2", "sem is one semaphore"),
    ("sem:/a/b", "it has a slash after the first character"),
    ("mq --size 1K", "mq has no --size; it is for q, m, shm, channel, topic"),
    ("topic --overwrite", "topic has no --overwrite; it is for channel"),
    ("q --type str", "q has no --type; it is for channel, topic"),
    ("channel --history 0", "channel has no --history"),
    ("channel --type O", "dtype 'O' has Python objects"),
    ("channel --type nonsense", "is not a numpy dtype"),
    ("channel --type nosuchmodule:A", "cannot import module nosuchmodule"),
    ("channel --type str --struct stat:x", "module stat has no class x"),
    ("q --exist-ok", "--exist-ok needs a name or a --key"),
]


def test_wrong_usage(cli: Cli) -> None:
    for words, says in WRONG:
        status, out, err = cli("make", *words.split())
        assert (status, out) == (2, ""), words
        assert says in err


def test_kinds_are_completed() -> None:
    parameter = main.get_command(None, "make").params[0]  # type: ignore[arg-type, union-attr]
    found = parameter.type.shell_complete(None, None, "s")  # type: ignore[arg-type]
    assert [each.value for each in found] == ["s", "shm", "sem", "segment", "set", "sem-set"]


# -- sem -------------------------------------------------------------------------------------------


def test_a_posix_semaphore(cli: Cli, ns: Namespace) -> None:
    address = f"sem:{ns.name()}"
    cli("make", address, "--values", 0)
    assert cli("sem", "post", address) == (0, "1", "")
    assert cli("sem", "post", address, 3)[1] == "4"
    assert cli("sem", "take", address)[1] == "3"
    assert cli("sem", "take", address, 2, "--timeout", 0)[1] == "1"
    status, out, err = cli("sem", "take", address, 3, "--timeout", 0.02)
    assert (status, out) == (1, "")
    assert err == "ipckit: the value is below 3; waited 0.02 s; nothing was taken\n"
    assert cli("sem", "set", address, 5)[1] == "5"
    assert cli("sem", "set", address, 2)[1] == "2"
    assert cli("sem", "set", address, 2)[1] == "2"
    assert stat(address).used.values == (2,)


def test_a_take_that_times_out_posts_what_it_took(cli: Cli, ns: Namespace) -> None:
    address = f"sem:{ns.name()}"
    cli("make", address, "--values", 2)
    assert cli("sem", "take", address, 3, "--timeout", 0) == (
        1,
        "",
        "ipckit: the value is below 3; nothing was taken\n",
    )
    assert stat(address).used.values == (2,)


def test_a_set(cli: Cli) -> None:
    _, address, _ = cli("make", "set", "--values", "1,0,3")
    assert cli("sem", "post", address, 1)[:2] == (0, "1")
    assert cli("sem", "post", address, 1, 4)[1] == "5"
    assert cli("sem", "take", address, 1, 2)[1] == "3"
    assert cli("sem", "set", address, 2, 9)[1] == "9"
    assert stat(address).used.values == (1, 3, 9)
    status, _, err = cli("sem", "take", address, 0, 2, "--timeout", 0.01)
    assert (status, stat(address).used.values) == (1, (1, 3, 9))
    assert err == "ipckit: the value is below 2; waited 0.01 s; nothing was taken\n"
    assert cli("sem", "set", address, "4,0,0")[1] == "4 0 0"
    assert cli("sem", "post", address, 0, 32767)[0] == 1
    assert cli("sem", "post", address, 0, 40000)[0] == 2


def test_a_set_of_one_needs_no_index(cli: Cli) -> None:
    _, address, _ = cli("make", "set", "--values", "0")
    assert cli("sem", "post", address)[1] == "1"
    assert cli("sem", "take", address)[1] == "0"
    assert cli("sem", "set", address, 4)[1] == "4"


def test_a_post_wakes_a_waiter(cli: Cli) -> None:
    _, address, _ = cli("make", "set", "--values", "0")
    with ipckit.SysVSemaphoreSet.from_id(int(address[2:])) as found:
        waiter = threading.Thread(target=found[0].acquire)
        waiter.start()
        wait_blocked(waiter.native_id or 0, "semop")
        assert cli("sem", "post", address)[0] == 0
        waiter.join()


WRONG_SEM = [
    ("post {set}", "the set has 2 semaphores; say which"),
    ("post {set} 2", "INDEX is 2; the set has the semaphores 0 to 1"),
    ("post {set} x", "INDEX is 'x'"),
    ("take {set} 0 0", "N is 0; it must be 1 or more"),
    ("take {set} 0 1 2", "too many numbers"),
    ("set {set}", "give INDEX VALUE, or all values: 1,0"),
    ("set {set} 1,2,3", "the set has 2 semaphores; give INDEX VALUE"),
    ("set {set} 0 1 2", "give INDEX VALUE"),
    ("set {set} 0 40000", "must be 0 to 32767"),
    ("post {sem} 0", "N is 0"),
    ("post {sem} 1 1", "too many numbers"),
    ("set {sem}", "a POSIX semaphore has one value"),
    ("set {sem} 0 1", "a POSIX semaphore has one value"),
    ("set {sem} 2147483648", "the highest is 2147483647"),
    ("post {sem} --timeout 1", "--timeout is for take"),
    ("post q:1", "accepts only these kinds"),
]


def test_wrong_usage_of_sem(cli: Cli, ns: Namespace) -> None:
    addresses = {
        "set": cli("make", "set", "--values", "1,0")[1],
        "sem": cli("make", f"sem:{ns.name()}")[1],
    }
    for words, says in WRONG_SEM:
        status, out, err = cli("sem", *words.format_map(addresses).split())
        assert (status, out) == (2, ""), words
        assert says in err


def test_a_semaphore_that_is_not_there(cli: Cli, ns: Namespace) -> None:
    assert cli("sem", "post", f"sem:{ns.name()}")[0] == 1
