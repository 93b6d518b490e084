"""Parse struct declarations in C with pycparser, and translate them into field types."""

# pycparser ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from ipckit._payload import c_expressions, fields
from ipckit._payload.arrays import ArrayOf
from ipckit._payload.c_expressions import Number
from ipckit._payload.c_preprocessor import expanded, refuse
from ipckit._payload.c_types import CType, Nested, Raw, Scalar, StructClass, Text
from ipckit._payload.fields import checked_count
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

try:
    from pycparser import c_ast, c_parser
except ImportError as error:
    message = "Struct.from_c needs pycparser: pip install pycparser"
    raise ImportError(message, name=error.name) from error


S = TypeVar("S", bound=StructClass)
S_co = TypeVar("S_co", bound=StructClass, covariant=True)


class _Make(Protocol[S_co]):
    def __call__(self, name: str, types: Mapping[str, CType], packed: bool, /) -> S_co: ...  # noqa: FBT001


def _scalars() -> dict[str, Scalar]:
    """Map the words of each scalar type, in alphabetical order, to the type."""
    found = {
        " ".join(sorted(scalar.c_name.split())): scalar
        for scalar in vars(fields).values()
        if isinstance(scalar, Scalar)
    }
    for words, same in _SYNONYMS.items():
        found[words] = found[same]
    return found


# C has several spellings for a type: from the words of another spelling, in alphabetical order, to
# the spelling that `fields` uses.
_SYNONYMS: Final = {
    "_Bool": "bool",
    "char signed": "int8_t",
    "char unsigned": "uint8_t",
    "int short": "short",
    "int short signed": "short",
    "short signed": "short",
    "int short unsigned": "short unsigned",
    "signed": "int",
    "int signed": "int",
    "unsigned": "int unsigned",
    "int long": "long",
    "long signed": "long",
    "int long signed": "long",
    "int long unsigned": "long unsigned",
    "int long long": "long long",
    "long long signed": "long long",
    "int long long signed": "long long",
    "int long long unsigned": "long long unsigned",
}
_SCALARS: Final = _scalars()
_TYPEDEFS: Final = [name for name in _SCALARS if name.endswith("_t")] + ["bool"]
_FILE: Final = "C text"
_PRELUDE: Final = "".join(f"typedef int {name};\n" for name in _TYPEDEFS) + f'#line 1 "{_FILE}"\n'
_CHAR: Final = Text(1)
_INT: Final = _SCALARS["int"]
_ENUM_TYPES: Final = [
    _SCALARS[words] for words in ("int", "int unsigned", "long", "long unsigned", "long long")
]

_PACKED: Final = r"__attribute__\s*\(\(\s*(?:__)?packed(?:__)?\s*\)\)"
_PACKED_BEFORE: Final = re.compile(rf"\bstruct\s+{_PACKED}\s*(\w*)\s*\{{")
_PACKED_AFTER: Final = re.compile(rf"\}}\s*{_PACKED}")
_MARK: Final = "__ipckit_packed"  # pycparser knows no attributes, so a member replaces this one
# Words that change a layout. pycparser ignores them or takes them for names.
_UNKNOWN_WORDS: Final = re.compile(r"\b(__attribute(?:__)?|_Pragma|__pragma|__declspec|alignas)\b")
# An unknown macro after a struct's brace looks like a variable of that name.
_MACRO_LIKE: Final = re.compile(r"__.*|.*(?:pack|align).*", re.IGNORECASE)


def _line(node: Any) -> object:
    return getattr(node.coord, "line", "?")


def _prepared(text: str) -> str:
    """Expand the text, and replace the attribute packed by a member that pycparser accepts."""
    text = expanded(text)
    text = _PACKED_BEFORE.sub(rf"struct \1 {{ int {_MARK};", text)
    text = _PACKED_AFTER.sub(f"int {_MARK}; }}", text)
    if found := _UNKNOWN_WORDS.search(text):
        what = f"{found[1]} is not supported"
        if found[1].startswith("__attribute"):
            what = "no attribute except packed is supported"
        refuse(what, text.count("\n", 0, found.start()) + 1)
    return text


def _checked(node: Any) -> None:
    """Refuse a specifier or qualifier that changes the layout of a declaration."""
    if getattr(node, "align", None):
        what = "_Alignas is not supported"
        raise InvalidArgument(what, errno=errno.EINVAL)
    if "_Atomic" in (getattr(node, "quals", None) or ()):
        what = "_Atomic is not supported, because each compiler chooses its layout"
        raise InvalidArgument(what, errno=errno.EINVAL)


class _Translator(Generic[S]):
    """Walks the syntax tree of one text, and creates a class for each struct in order."""

    def __init__(self, make: _Make[S]) -> None:
        self._make = make
        self._constants: dict[str, Number] = {}
        self._types: dict[
            str, CType | InvalidArgument
        ] = {}  # by typedef name; the error if it is not supported
        self._enums: dict[str, Scalar] = {}  # by tag
        self._tags: dict[str, S] = {}
        self._made: dict[int, S] = {}  # by the identity of the node
        self._made_enums: dict[int, Scalar] = {}
        self.named: dict[str, S] = {}
        self.last: S | None = None

    def declare(self, node: Any) -> None:
        """Process one top-level declaration."""
        if isinstance(node, c_ast.Typedef):
            self._typedef(node)
        elif isinstance(node, c_ast.Decl):
            self._declare(node)

    def _typedef(self, node: Any) -> None:
        inner = node.type.type if isinstance(node.type, c_ast.TypeDecl) else None
        if isinstance(inner, c_ast.Struct) and (inner.decls or inner.name in self._tags):
            self._check_top(node)
            self.last = self.named[node.name] = self._struct(inner, node.name)
        found: CType | InvalidArgument
        try:
            found = self._ctype(node.type, node.name)
        except InvalidArgument as error:
            # A typedef of a pointer, for example, is an error only if a field uses it.
            if isinstance(inner, c_ast.Enum):
                raise
            found = error
        known = self._types.setdefault(node.name, found)
        if _differ(known, found):
            refuse(f"{node.name} is declared twice, as different types", _line(node))

    def _declare(self, node: Any) -> None:
        inner = node.type
        variable = isinstance(inner, c_ast.TypeDecl)
        if variable and isinstance(inner.type, (c_ast.Struct, c_ast.Enum)):
            if _MACRO_LIKE.fullmatch(str(node.name)):
                refuse(f"{node.name} looks like a macro that is not defined here", _line(node))
            inner = inner.type
        if isinstance(inner, c_ast.Struct) and inner.decls and inner.name:
            self._check_top(node)
            self.last = self._struct(inner, inner.name)
        elif isinstance(inner, c_ast.Enum):
            self._enum(inner)

    def _check_top(self, node: Any) -> None:
        try:
            _checked(node)
            _checked(node.type)
        except InvalidArgument as error:
            refuse(f"{node.name}: {error.strerror}", _line(node))

    def _struct(self, node: Any, name: str) -> S:
        if id(node) in self._made:
            return self._made[id(node)]
        if not node.decls:
            found = self._tags.get(node.name)
            if found is None:
                refuse(f"struct {node.name} is not declared", _line(node))
            return found
        types: dict[str, CType] = {}
        packed = False
        for member in node.decls:
            if isinstance(member, c_ast.StaticAssert):
                continue
            if getattr(member, "name", None) == _MARK:
                packed = True
                continue
            if self._member_name(member) in types:
                refuse(f"two fields are named {member.name!r}", _line(member))
            types[member.name] = self._member(member, f"{name}_{member.name}")
        if not types:
            refuse(f"struct {name} has no fields", _line(node))
        if name in self.named or node.name in self._tags:
            refuse(f"two structs are named {name}", _line(node))
        made = self._made[id(node)] = self._make(name, types, packed)
        if node.name:
            self._tags[node.name] = made
            self.named.setdefault(node.name, made)
        self.named[name] = made
        return made

    def _member_name(self, member: Any) -> str:
        if not isinstance(member, c_ast.Decl):
            refuse("a struct can contain only fields", _line(member))
        if member.name is None:
            refuse("a member without a name is not supported", _line(member))
        if member.bitsize is not None:
            refuse(
                f"field {member.name!r} is a bit-field, and C does not define its place",
                _line(member),
            )
        return str(member.name)

    def _member(self, member: Any, inner_name: str) -> CType:
        try:
            _checked(member)
            return self._ctype(member.type, inner_name)
        except InvalidArgument as error:
            if str(error.strerror).startswith("line "):
                raise
            refuse(f"field {member.name!r}: {error.strerror}", _line(member))

    def _ctype(self, node: Any, inner_name: str) -> CType:
        """Return the C type of a node of the syntax tree."""
        _checked(node)
        match node:
            case c_ast.ArrayDecl():
                return self._array(node, inner_name)
            case c_ast.TypeDecl() | c_ast.Typename():
                return self._ctype(node.type, inner_name)
            case c_ast.IdentifierType():
                return self._named(node.names)
            case c_ast.Struct():
                return Nested(self._struct(node, node.name or inner_name))
            case c_ast.Enum():
                return self._enum(node)
            case c_ast.PtrDecl():
                what = "a pointer is invalid in another process"
            case c_ast.Union():
                what = "a union is not supported; declare the member that you need instead"
            case _:
                what = f"a {type(node).__name__} has no size"
        raise InvalidArgument(what, errno=errno.EINVAL)

    def _named(self, words: list[str]) -> CType:
        name = " ".join(sorted(words))
        found = self._types.get(name)
        if isinstance(found, InvalidArgument):
            raise InvalidArgument(str(found.strerror), errno=errno.EINVAL)
        if found is not None:
            return found
        if name == "char":
            return _CHAR
        if name not in _SCALARS:
            what = f"{' '.join(words)} is not supported"
            raise InvalidArgument(what, errno=errno.EINVAL)
        return _SCALARS[name]

    def _array(self, node: Any, inner_name: str) -> CType:
        if node.dim is None:
            what = "an array without a size is not supported"
            raise InvalidArgument(what, errno=errno.EINVAL)
        count = checked_count("an array", self._value(node.dim).value)
        if isinstance(node.type, c_ast.TypeDecl):
            names = getattr(node.type.type, "names", [])
            if names == ["char"]:
                return Text(count)
            if sorted(names) == ["char", "unsigned"]:
                return Raw(count)
        return ArrayOf(self._ctype(node.type, inner_name), count)

    def _enum(self, node: Any) -> Scalar:
        """Return the integer type that gcc chooses for an enum, and define the enum's constants."""
        if node.values is None:
            if node.name not in self._enums:
                refuse(f"enum {node.name} is not declared", _line(node))
            return self._enums[node.name]
        if id(node) in self._made_enums:
            return self._made_enums[id(node)]
        names: list[str] = []
        following: Number | None = Number(0)
        for item in node.values.enumerators:
            given = None if item.value is None else self._value(item.value)
            constant = following if given is None else c_expressions.smallest(given.value)
            if constant is None:
                refuse(f"{item.name} is out of the range of its type", _line(item))
            if item.name in self._constants:
                refuse(f"{item.name} is declared twice", _line(item))
            self._constants[item.name] = constant
            following = c_expressions.binary("+", constant, Number(1))
            if following is not None and following.value == 0 and not constant.signed:
                following = None  # the value wrapped around to 0
            names.append(item.name)
        kind = self._enum_type([self._constants[name].value for name in names], node)
        if kind is not _INT:
            for name in names:
                value = self._constants[name].value
                self._constants[name] = Number(value, 8 * kind.size, signed=kind.code == "i")
        if node.name in self._enums:
            refuse(f"two enums are named {node.name}", _line(node))
        if node.name:
            self._enums[node.name] = kind
        self._made_enums[id(node)] = kind
        return kind

    def _enum_type(self, values: list[int], node: Any) -> Scalar:
        """Return the first of `_ENUM_TYPES` that has the range for all values."""
        for kind in _ENUM_TYPES:
            signed = kind.code == "i"
            if all(c_expressions.fits(value, 8 * kind.size, signed=signed) for value in values):
                return kind
        return refuse("no integer type has the range for all values of the enum", _line(node))

    def _value(self, node: Any) -> Number:
        """Evaluate an integer constant expression."""
        found = self._evaluated(node)
        if found is None:
            refuse("not an integer constant that ipckit can evaluate", _line(node))
        return found

    def _evaluated(self, node: Any) -> Number | None:  # noqa: PLR0911 - one for each kind of node
        match node:
            case c_ast.Constant() if "int" in node.type:
                return c_expressions.integer(node.value)
            case c_ast.Constant(type="char"):
                return c_expressions.character(node.value)
            case c_ast.ID():
                if node.name not in self._constants:
                    refuse(f"{node.name} is not defined", _line(node))
                return self._constants[node.name]
            case c_ast.UnaryOp(op="sizeof"):
                return Number(self._ctype(node.expr, "").size, *_SIZE_T)
            case c_ast.UnaryOp():
                return c_expressions.unary(node.op, self._value(node.expr))
            case c_ast.BinaryOp(op="&&" | "||"):
                left = self._value(node.left).value != 0
                decided = left == (node.op == "||")
                return Number(int(left if decided else self._value(node.right).value != 0))
            case c_ast.BinaryOp():
                return c_expressions.binary(
                    node.op, self._value(node.left), self._value(node.right)
                )
            case c_ast.TernaryOp():
                yes, no = self._value(node.iftrue), self._value(node.iffalse)
                return c_expressions.common(yes, no)[0 if self._value(node.cond).value else 1]
            case c_ast.Cast():
                kind = self._ctype(node.to_type, "")
                number = self._value(node.expr)
                return c_expressions.cast(number, kind) if isinstance(kind, Scalar) else None
            case _:
                return None


_SIZE_T: Final = (8 * _SCALARS["size_t"].size, False)


def _differ(one: CType | InvalidArgument, other: CType | InvalidArgument) -> bool:
    """Return whether two typedefs of one name have different types, which is an error in C."""
    if isinstance(one, Nested) and isinstance(other, Nested):
        return one.struct is not other.struct
    if isinstance(one, InvalidArgument) or isinstance(other, InvalidArgument):
        return type(one) is not type(other)
    return one != other


def _parse(text: str, what: str) -> Any:
    try:
        return c_parser.CParser().parse(_PRELUDE + text)
    except (c_parser.ParseError, RecursionError) as error:
        message = f"{what} is not valid C: {error}"
        raise InvalidArgument(message, errno=errno.EINVAL) from None


def parse(declaration: str, name: str | None, make: _Make[S]) -> S:
    """Create the classes of the structs in C text, and return one of them.

    Args:
        declaration: the text.
        name: the typedef name or the tag of the struct; None for the last one.
        make: creates a class from its name, its fields and whether it is packed.

    Raises:
        InvalidArgument: as `StructType.from_c` says.
    """
    translator = _Translator(make)
    for node in _parse(_prepared(declaration), "the declaration").ext:
        if isinstance(node, c_ast.Pragma):
            refuse("#pragma is not supported", _line(node))
        # The typedefs of the prelude are in _SCALARS already.
        if getattr(node.coord, "file", None) == _FILE:
            translator.declare(node)
    found = translator.last if name is None else translator.named.get(name)
    if found is None:
        message = f"the text declares no struct {name}" if name else "the text declares no struct"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return found
