"""RemoteMethod: encode the arguments and decode the results of a service's method in a client."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.msgpack import Decoder, encode

from ipckit._payload.codecs import codec_for
from ipckit._rpc.description import text_of
from ipckit._rpc.method import EXACT, UNENCODABLE, arguments_type, is_plain
from ipckit._rpc.rebuilding import UnknownStruct, loaded_object, rebuild
from ipckit._rpc.values import decoded, decoder_of, encoded
from ipckit._rpc.wire import BY_NAME, VERSION
from ipckit.errors import LayoutMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from ipckit._payload.codec import Codec
    from ipckit._rpc.description import Description, TypeTable

_PLACE = re.compile(r" - at `\$(?:\[(\d+)\]|\.([^.\[`]+))?([^`]*)`$")


class RemoteMethod:
    """A method of a service in a client, made from the service's description of it.

    Args:
        service: the service, for error messages.
        number: the number of the method in calls.
        description: the service's description of the method.
        table: the classes to which the descriptions of the service refer.
        revision: the revision of the service's methods.

    Attributes:
        name: the name of the method.
        number: the number of the method in calls.
        revision: the revision of the service's methods.
        streams: whether the result is a stream of items.
        exact: the classes of the arguments if these need no further check, otherwise None.
        decode_plain: decodes the result in a reply without parts; None if msgspec alone can't
            decode it, or if it is a stream.

    Raises:
        LookupError, TypeError, ValueError: the description is invalid.
    """

    def __init__(
        self,
        service: str,
        number: int,
        description: Description,
        table: TypeTable,
        revision: int,
    ) -> None:
        self.name, self._parameters, result, self.streams, codec, self._positional = description
        self.number, self._service, self._table = number, service, table
        self.revision = revision
        self._names = {name: place for place, (name, _, _) in enumerate(self._parameters)}
        self._required = sum(required for _, _, required in self._parameters)
        words = [kind if isinstance(kind, str) else "" for _, kind, _ in self._parameters]
        exact = all(word in EXACT for word in words) and self._positional == len(words)
        self.exact = tuple(EXACT[word] for word in words) if exact else None
        self._described = result
        self._decoders: dict[bool, Decoder[Any]] = {}
        self._codec: Codec[Any] | None = None
        self._codec_name = codec
        self._result = rebuild(result, table)
        self._result_decoder = decoder_of(self._result)
        plain = is_plain(result) and not self.streams
        self.decode_plain = self._result_decoder.decode if plain else None

    def __str__(self) -> str:
        parameters = ", ".join(
            f"{name}: {text_of(kind)}" + ("" if required else " = ...")
            for name, kind, required in self._parameters
        )
        if self._codec_name is not None:
            parameters = "..."
        result = (
            f"stream of {text_of(self._described)}" if self.streams else text_of(self._described)
        )
        return f"{self.name}({parameters}) -> {result}"

    # -- arguments ---------------------------------------------------------------------------------

    def encode(
        self, given: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[int, bytes | list[Buffer]]:
        """Return the flags and the body of a call.

        Raises:
            TypeError: the arguments do not fit the method's parameters.
        """
        if not named and tuple(map(type, given)) == self.exact:
            try:
                return 0, encode(given)
            except UNENCODABLE as exc:
                raise self.mismatch(exc) from None
        if self._codec_name is not None:
            return 0, bytes(self._the_codec().encode((given, named)))
        arguments, by_name = self._bound(given, named)
        try:
            value = encoded(arguments)
        except (TypeError, *UNENCODABLE) as exc:
            raise self.mismatch(exc) from None
        body, parts = (value, ()) if isinstance(value, bytes) else (value[0], value[1:])
        views = [memoryview(part) for part in parts]
        try:
            decoded(self._decoder(by_name), body, views, self._table.structs, in_place=True)
        except msgspec.DecodeError as exc:
            raise self.mismatch(exc) from None
        return BY_NAME if by_name else 0, value

    def _bound(self, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, bool]:
        """Return the arguments for a message, and whether they are a map of names.

        They are a tuple in the order of the parameters, or a map of names if an argument before the
        last one is omitted.

        Raises:
            TypeError: the arguments do not fit the parameters.
        """
        if len(given) > (count := self._positional):
            by_position = "" if count == len(self._parameters) else " by position"
            message = f"takes {count} argument{'s' * (count != 1)}{by_position}, not {len(given)}"
            raise self.mismatch(message)
        found: dict[str, Any] = dict(zip(self._names, given, strict=False))
        for name, value in named.items():
            if name not in self._names:
                raise self.mismatch(f"has no parameter {name}")
            if name in found:
                raise self.mismatch(f"got two values for {name}")
            found[name] = value
        missing = [name for name, _, required in self._parameters if required and name not in found]
        if missing:
            raise self.mismatch(f"needs {', '.join(missing)}")
        ordered = tuple(found[name] for name in self._names if name in found)
        if all(place < len(ordered) for name, place in self._names.items() if name in found):
            return ordered, False
        return found, True

    def _decoder(self, by_name: bool) -> Decoder[Any]:  # noqa: FBT001 - a key
        """Return the decoder with which the service decodes the arguments."""
        if by_name not in self._decoders:
            kinds = [rebuild(kind, self._table) for _, kind, _ in self._parameters]
            kind = arguments_type(self._parameters, kinds, by_name=by_name)
            self._decoders[by_name] = decoder_of(kind)
        return self._decoders[by_name]

    def mismatch(self, why: object) -> TypeError:
        """Return the error for arguments that the service would refuse."""
        text = str(why)
        where = ""
        if isinstance(why, Exception) and (found := _PLACE.search(text)):
            place, name, rest = found.groups()
            text = text[: found.start()]
            number = int(place) if place else self._names.get(name, -1)
            if number >= 0 and not rest:
                # msgspec calls a class with fields an `object`.
                name, kind, _ = self._parameters[number]
                text = text.replace("Expected `object`", f"Expected `{text_of(kind)}`")
            elif place:
                name = self._parameters[number][0]
            where = f" {name}{rest}:" if name else ""
        return TypeError(f"{self._service}.{self.name}:{where} {text}")

    def _the_codec(self) -> Codec[Any]:
        """Return the codec of the method.

        Raises:
            TypeError: this process has not imported the class of the codec.
        """
        if self._codec is None:
            module, qualname = self._codec_name
            found = loaded_object(module, qualname)
            if found is None:
                raise self.mismatch(f"import {module}, whose {qualname} the method needs")
            self._codec = codec_for(found)
        return self._codec

    # -- results -----------------------------------------------------------------------------------

    def decode(self, body: memoryview, parts: Sequence[memoryview]) -> Any:
        """Return the result in a reply, or the item in a message of a stream.

        Raises:
            LayoutMismatch: the value does not have the described type, or this process has not
                loaded the class of its struct.
        """
        try:
            if self._codec_name is not None:
                return self._the_codec().decode(bytes(body))
            return decoded(self._result_decoder, body, parts, self._table.structs)
        except msgspec.DecodeError as exc:
            raise self.undecodable(exc) from exc

    def undecodable(self, exc: msgspec.DecodeError) -> LayoutMismatch:
        """Return the error for a result that is not of the described type."""
        message = f"the result is not of the described type: {exc}"
        if isinstance(self._result, type) and issubclass(self._result, UnknownStruct):
            message = f"the result is a {self._result.__name__}; import the module that defines it"
        return LayoutMismatch(message, op=f"call {self.name}", target=self._service)


class Describe:
    """The method that returns the description of a service.

    Attributes:
        name: a name for error messages.
        streams: False, because the result is not a stream.
    """

    name = "__describe__"
    streams = False

    @staticmethod
    def decode(body: memoryview, parts: Sequence[memoryview]) -> Any:  # noqa: ARG004 - as above
        """Return the revision, the definitions of classes, and the methods.

        Raises:
            LayoutMismatch: the service is of another version of ipckit.
        """
        try:
            version, *found = msgspec.msgpack.decode(body)
        except (msgspec.DecodeError, TypeError, ValueError):
            version, found = None, []
        if version != VERSION:
            message = f"the service uses version {version} of the protocol, not {VERSION}"
            raise LayoutMismatch(message, op="call")
        return found
