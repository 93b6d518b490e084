"""Method: a function that a service offers, with the types of its parameters and its result."""

from __future__ import annotations

import inspect
import traceback
import typing
from collections import abc
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.msgpack import decode, encode

from ipckit._payload.codec import Codec
from ipckit._payload.codecs import codec_for
from ipckit._rpc.description import describe
from ipckit._rpc.rebuilding import rebuild
from ipckit._rpc.values import decoded, decoder_of, encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from typing_extensions import Buffer

    from ipckit._rpc.description import Description, TypeTable

_ITERATORS: Final = frozenset(
    {
        abc.Iterator,
        abc.Iterable,
        abc.Generator,
        abc.AsyncIterator,
        abc.AsyncIterable,
        abc.AsyncGenerator,
    }
)
_HOOKED: Final = frozenset({"array", "number", "struct", "class"})
_TAKES_MANY: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
# msgspec raises these for a value of the right type that MessagePack can't express: 2**64, or a
# surrogate.
UNENCODABLE: Final = (OverflowError, UnicodeEncodeError)
# Types whose values only need a check of their class.
EXACT: Final[dict[str, type[Any]]] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "bytes": bytes,
    "None": type(None),
}


class Method:
    """A function that a service offers.

    Args:
        function: the function.
        name: the name by which clients call the function.
        codec: the codec of the arguments and the result, which replaces the annotations; or None.
        in_place: whether arrays among the arguments use shared memory, read-only.
        table: the classes to which the service's descriptions refer.
        frame: the frame that registers the function, for local names in its annotations.

    Attributes:
        function: the function.
        name: the name by which clients call the function.
        streams: whether it is a generator function.
        awaitable: whether it is a coroutine function or an asynchronous generator function.
        description: the method as plain values, which the service sends to clients.
        decode_plain: decodes the arguments of a call without parts; None if msgspec alone can't
            decode them.
        result_type: the class of results that need no further check; None if there is none.

    Raises:
        TypeError: a type can't be carried, or an annotation is missing.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        codec: Codec[Any] | None,
        *,
        in_place: bool,
        table: TypeTable,
        frame: FrameType,
    ) -> None:
        self.function, self.name = function, name
        self._codec, self._in_place, self._table = codec, in_place, table
        self._parameters: list[tuple[str, Description, bool]] = []
        self._positional = 0  # how many parameters can be passed by position
        self.decode_plain: Callable[[Buffer], Any] | None = None
        self.result_type: type[Any] | None = None
        self.streams = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        self.awaitable = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(
            function
        )
        parameters = list(inspect.signature(function).parameters.values())
        if codec is None:
            self._read_annotations(parameters, _hints_of(function, name, frame))
        else:
            self._result: Description = "Any"
        self.description: Description = [
            name,
            [[each, kind, required] for each, kind, required in self._parameters],
            self._result,
            self.streams,
            None if codec is None else [type(codec).__module__, type(codec).__qualname__],
            self._positional,
        ]

    def _read_annotations(self, parameters: list[inspect.Parameter], hints: dict[str, Any]) -> None:
        for each in parameters:
            if each.kind in _TAKES_MANY:
                message = (
                    f"{self.name}: *{each.name} can't be carried; list the parameters, or register "
                    "the method with codec=Pickle"
                )
                raise TypeError(message)
            kind = self._described(f"parameter {each.name}", each.name, hints)
            self._parameters.append((each.name, kind, each.default is each.empty))
        if self.streams:
            hints = {**hints, "return": _item_of(hints.get("return", inspect.Parameter.empty))}
        self._result = self._described("the result", "return", hints)
        kinds = [rebuild(kind, self._table) for _, kind, _ in self._parameters]
        self._required = all(required for _, _, required in self._parameters)
        keywords = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
        self._positional = len(parameters) - len(keywords)
        self._decoder = decoder_of(arguments_type(self._parameters, kinds))
        self._by_name = decoder_of(arguments_type(self._parameters, kinds, by_name=True))
        self.result_type = EXACT.get(self._result) if isinstance(self._result, str) else None
        special = keywords or self.streams or self.awaitable
        if (
            self._required
            and not special
            and all(is_plain(kind) for _, kind, _ in self._parameters)
        ):
            self.decode_plain = self._decoder.decode
        self._result_decoder = decoder_of(rebuild(self._result, self._table))

    def _described(self, place: str, name: str, hints: dict[str, Any]) -> Description:
        if name not in hints or hints[name] is inspect.Parameter.empty:
            message = (
                f"{self.name}: {place} has no annotation; annotate it, or register the method with "
                "codec=Pickle"
            )
            raise TypeError(message)
        try:
            return describe(hints[name], self._table)
        except (TypeError, NameError) as exc:
            message = f"{self.name}: {place}: {exc}; or register the method with codec=Pickle"
            raise TypeError(message) from exc

    def bind(
        self, body: Buffer, parts: Sequence[memoryview], *, by_name: bool
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """Return the positional and the keyword arguments in a call.

        Args:
            body: the body of the message.
            parts: the arrays of the message.
            by_name: whether the body is a map of names, and not a list.

        Raises:
            Exception: the body does not contain arguments for this method.
        """
        if self._codec is not None:
            found: tuple[Sequence[Any], dict[str, Any]] = self._codec.decode(bytes(body))
            return found
        decoder = self._by_name if by_name else self._decoder
        values: Any = decoded(decoder, body, parts, self._table.structs, in_place=self._in_place)
        given = values  # `isinstance` narrows the type to a tuple of unknown items
        if isinstance(values, tuple):
            if len(given) == self._positional:
                return given, {}
            names = [name for name, _, _ in self._parameters[self._positional :]]
            named = zip(names, given[self._positional :], strict=True)
            return given[: self._positional], dict(named)
        return self._with_defaults(values)

    def _with_defaults(self, values: Any) -> tuple[Sequence[Any], dict[str, Any]]:
        """Return the arguments of a call that omits some arguments with defaults."""
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for number, (name, _, required) in enumerate(self._parameters):
            value = getattr(values, f"p{number}")
            if value is msgspec.UNSET:
                if required:
                    message = f"{self.name} needs {name}"
                    raise TypeError(message)
                continue
            if number == len(positional) and number < self._positional:
                positional.append(value)
            else:
                named[name] = value
        return positional, named

    def encode_result(self, result: Any) -> bytes | list[Buffer]:
        """Return the body of a reply with a result, or of an item of the stream.

        Raises:
            TypeError: the result does not have the annotated type.
        """
        if self._codec is not None:
            return bytes(self._codec.encode(result))
        try:
            if type(result) is self.result_type:
                return encode(result)
            value = encoded(result)
            body, parts = (value, ()) if isinstance(value, bytes) else (value[0], value[1:])
            views = [memoryview(part) for part in parts]
            decoded(self._result_decoder, body, views, self._table.structs, in_place=True)
        except (msgspec.ValidationError, TypeError, *UNENCODABLE) as exc:
            message = f"the result of {self.name} is not of its type: {exc}"
            raise TypeError(message) from exc
        return value


def is_plain(description: Description) -> bool:
    """Return whether msgspec decodes values of a type without the hooks of `values`."""
    if isinstance(description, str):
        return description != "Any"
    word, *arguments = description
    return word == "literal" or (word not in _HOOKED and all(map(is_plain, arguments)))


def arguments_type(
    parameters: Sequence[tuple[str, Description, bool]], kinds: list[Any], *, by_name: bool = False
) -> Any:
    """Return the type of the arguments in a message.

    The type is a tuple if all arguments are required. Otherwise it is a class with the fields
    ``p0``, ``p1`` and so on, because a client can omit an argument that has a default: at the end
    of the list, or in the map of names.
    """
    if not by_name and all(required for _, _, required in parameters):
        return tuple[tuple(kinds)]  # type: ignore[misc]
    fields: list[Any] = []
    must_be_given = True
    for number, ((_, _, required), kind) in enumerate(zip(parameters, kinds, strict=True)):
        # In a list, each argument after an optional one can be missing too. `bind` checks that.
        must_be_given = required and (by_name or must_be_given)
        if must_be_given:
            fields.append((f"p{number}", kind))
        else:
            fields.append((f"p{number}", kind | msgspec.UnsetType, msgspec.UNSET))
    names = {f"p{number}": name for number, (name, _, _) in enumerate(parameters)}
    return msgspec.defstruct(
        "arguments",
        fields,
        array_like=not by_name,
        kw_only=by_name,
        rename=names if by_name else None,
        forbid_unknown_fields=True,
    )


def _item_of(annotation: Any) -> Any:
    """Return the type of the items, from the annotated result of a generator function."""
    if typing.get_origin(annotation) in _ITERATORS:
        return typing.get_args(annotation)[0]
    return annotation


def _hints_of(function: Callable[..., Any], name: str, frame: FrameType) -> dict[str, Any]:
    """Return the annotations of a function, which can refer to local classes of the frame."""
    plain: Any = inspect.unwrap(getattr(function, "__func__", function))
    if not hasattr(plain, "__annotations__") and callable(plain):
        plain = type(plain).__call__
    try:
        return typing.get_type_hints(plain, include_extras=True)
    except NameError:
        pass
    # `get_type_hints` does not know the local names of a surrounding function.
    local = {**frame.f_globals, **frame.f_locals}
    try:
        return typing.get_type_hints(plain, localns=local, include_extras=True)
    except NameError as exc:
        message = (
            f"{name}: {exc}, in an annotation; if it is imported under `if TYPE_CHECKING:`, "
            "import it at run time"
        )
        raise TypeError(message) from exc


def checked_codec(codec: Any) -> Codec[Any] | None:
    """Return the codec from the argument ``codec`` of `Service.method`.

    Raises:
        TypeError: the argument is neither None nor a codec.
    """
    if codec is None:
        return None
    wanted = codec  # the checks below would narrow the type of `codec`
    if isinstance(codec, Codec) or (isinstance(codec, type) and issubclass(codec, Codec)):
        return codec_for(wanted)
    message = f"codec must be a Codec, such as ipckit.codec.Pickle, not {codec!r}"
    raise TypeError(message)


def error_body(exc: BaseException) -> bytes:
    """Return the body of a reply for an exception that a method raised."""
    try:
        return _error_body(exc)
    except Exception:  # code of the exception's class failed, such as a property
        return encode([_plain(type(exc).__qualname__), "its text and traceback can't be sent", ""])


def short_error_body(exc: BaseException) -> bytes:
    """Return a body of at most 5 KiB for an exception, without the traceback."""
    name, text, _ = decode(error_body(exc))
    return encode([name[:_SHORT_TEXT], text[:_SHORT_TEXT], ""])


def _error_body(exc: BaseException) -> bytes:
    kind = type(exc)
    name = kind.__qualname__
    if kind.__module__ not in {"builtins", "__main__"}:
        name = f"{kind.__module__}.{name}"
    try:
        text = str(exc)
    except Exception as failed:  # `__str__` of the exception's class failed
        text = f"<its text raised {type(failed).__name__}>"
    # Omit the frames of this package.
    frames = exc.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
        frames = frames.tb_next
    lines = traceback.format_exception(kind, exc, frames)
    return encode([_plain(name), _plain(text), _plain("".join(lines))])


_SHORT_TEXT: Final = 500  # characters
_OWN_FILES: Final = __file__.rpartition("/")[0]


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
