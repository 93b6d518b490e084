"""Struct declarations in C, parsed by pycparser and turned into field types."""

# pycparser ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
from __future__ import annotations

import errno
import operator
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from ipckit import _fields
from ipckit._ctype import ArrayOf, CType, Nested, Raw, Scalar, Text
from ipckit._fields import checked_count
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ipckit.structs import StructType

try:
    from pycparser import c_ast, c_parser
except ImportError as error:
    message = "Struct.from_c needs pycparser: pip install pycparser"
    raise ImportError(message, name=error.name) from error


class _Make(Protocol):
    def __call__(self, name: str, types: Mapping[str, CType], packed: bool, /) -> StructType: ...  # noqa: FBT001


def _scalars() -> dict[str, Scalar]:
    """The scalar types by their words in alphabetical order."""
    found = {
        " ".join(sorted(scalar.c_name.split())): scalar
        for scalar in vars(_fields).values()
        if isinstance(scalar, Scalar)
    }
    for words, same in _SYNONYMS.items():
        found[words] = found[same]
    return found


# Words in alphabetical order, and the same for the type that they are another spelling of.
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
_PRELUDE: Final = "".join(f"typedef int {name};\n" for name in _TYPEDEFS) + '#line 1 "C text"\n'
_CHAR: Final = Text(1)
_ENUM: Final = _SCALARS["int"]

_COMMENT: Final = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_DIRECTIVE: Final = re.compile(r"^[ \t]*#[ \t]*(\w*)((?:\\\n|[^\n])*)", re.MULTILINE)
# What a header says to C++ alone, such as extern "C".
_FOR_CPP: Final = re.compile(
    r"""^[ \t]*\#[ \t]*if(?:def|[ \t]+defined)[ \t]*\(?[ \t]*__cplusplus[ \t]*\)?[ \t]*\n
    (?:(?![ \t]*\#[ \t]*(?:if|el|endif))[^\n]*\n)*
    [ \t]*\#[ \t]*endif[^\n]*""",
    re.MULTILINE | re.VERBOSE,
)
_DEFINE: Final = re.compile(r"\s*([A-Za-z_]\w*)\s+(.+)", re.DOTALL)
_PACKED: Final = r"__attribute__\s*\(\(\s*(?:__)?packed(?:__)?\s*\)\)"
_PACKED_BEFORE: Final = re.compile(rf"\bstruct\s+{_PACKED}\s*(\w*)\s*\{{")
_PACKED_AFTER: Final = re.compile(rf"\}}\s*{_PACKED}")
_MARK: Final = "__ipckit_packed"  # pycparser knows no attributes: a member stands for this one

_OPERATORS: Final[Mapping[str, Callable[[int, int], int]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
}


def _refuse(what: str, line: object) -> NoReturn:
    message = f"line {line}: {what}"
    raise InvalidArgument(message, errno=errno.EINVAL)


def _line(node: Any) -> object:
    return getattr(node.coord, "line", "?")


def _blank(match: re.Match[str]) -> str:
    """As many lines, so that the parser's line numbers are the user's."""
    return " " + "\n" * match.group().count("\n")


def _is_guard(text: str) -> bool:
    first = _DIRECTIVE.search(text)
    return first is not None and first[1] == "ifndef"


def _prepared(text: str) -> tuple[str, dict[str, str]]:
    """The text without comments and directives, and the macros that it defines."""
    text = _FOR_CPP.sub(_blank, _COMMENT.sub(_blank, text))
    macros: dict[str, str] = {}
    guarded = _is_guard(text)

    def take(match: re.Match[str]) -> str:
        name, rest = match[1], match[2]
        line = text.count("\n", 0, match.start()) + 1
        if name == "define" and (macro := _DEFINE.match(rest)):
            macros[macro[1]] = macro[2].replace("\\\n", " ").strip()
        elif name.startswith(("if", "el")) and not (guarded and name == "ifndef"):
            _refuse(f"#{name} needs a preprocessor: pass the text through gcc -E first", line)
        elif name == "pragma":
            _refuse("#pragma is not understood; __attribute__((packed)) is", line)
        return _blank(match)

    text = _DIRECTIVE.sub(take, text)
    text = _PACKED_BEFORE.sub(rf"struct \1 {{ int {_MARK};", text)
    text = _PACKED_AFTER.sub(f"int {_MARK}; }}", text)
    if (at := text.find("__attribute__")) >= 0:
        _refuse("no attribute but packed is understood", text.count("\n", 0, at) + 1)
    return text, macros


class _Translator:
    """Walks one parsed text and makes a class of each struct in it, in order."""

    def __init__(self, make: _Make, macros: Mapping[str, str]) -> None:
        self._make = make
        self._macros = macros
        self._constants: dict[str, int] = {}
        self._types: dict[str, Any] = {}  # typedef name -> its node
        self._tags: dict[str, StructType] = {}
        self._made: dict[int, StructType] = {}  # by the identity of the node
        self.named: dict[str, StructType] = {}
        self.last: StructType | None = None

    def declare(self, node: Any) -> None:
        """Take in one declaration of the text."""
        if isinstance(node, c_ast.Typedef) and node.name not in _SCALARS:
            self._types[node.name] = node.type
            inner = node.type.type if isinstance(node.type, c_ast.TypeDecl) else None
            if isinstance(inner, c_ast.Struct) and (inner.decls or inner.name):
                if inner.decls or inner.name in self._tags:
                    self.last = self.named[node.name] = self._struct(inner, node.name)
            elif isinstance(inner, c_ast.Enum):
                self._enum(inner)
        elif isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.Struct):
            if node.type.decls:
                self.last = self._struct(node.type, node.type.name)
        elif isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.Enum):
            self._enum(node.type)

    def _struct(self, node: Any, name: str) -> StructType:
        if id(node) in self._made:
            return self._made[id(node)]
        if not node.decls:
            found = self._tags.get(node.name)
            if found is None:
                _refuse(f"struct {node.name} is not declared", _line(node))
            return found
        types: dict[str, CType] = {}
        packed = False
        for member in node.decls:
            if getattr(member, "name", None) == _MARK:
                packed = True
                continue
            if self._member_name(member) in types:
                _refuse(f"two fields are named {member.name!r}", _line(member))
            types[member.name] = self._member(member, f"{name}_{member.name}")
        if not types:
            _refuse(f"struct {name} has no fields", _line(node))
        if name in self.named or node.name in self._tags:
            _refuse(f"two structs are named {name}", _line(node))
        made = self._made[id(node)] = self._make(name, types, packed)
        if node.name:
            self._tags[node.name] = made
            self.named.setdefault(node.name, made)
        self.named[name] = made
        return made

    def _member_name(self, member: Any) -> str:
        if not isinstance(member, c_ast.Decl):
            _refuse("only fields can stand in a struct", _line(member))
        if member.name is None:
            _refuse("a member without a name has no place in a Struct", _line(member))
        if member.bitsize is not None:
            _refuse(
                f"field {member.name!r} is a bit-field, whose place C leaves open", _line(member)
            )
        return str(member.name)

    def _member(self, member: Any, inner_name: str) -> CType:
        try:
            return self._ctype(member.type, inner_name)
        except InvalidArgument as error:
            if str(error.strerror).startswith("line "):
                raise
            _refuse(f"field {member.name!r}: {error.strerror}", _line(member))

    def _ctype(self, node: Any, inner_name: str) -> CType:
        """The type that a node of the syntax tree stands for."""
        match node:
            case c_ast.ArrayDecl():
                return self._array(node, inner_name)
            case c_ast.TypeDecl() | c_ast.Typename():
                return self._ctype(node.type, inner_name)
            case c_ast.IdentifierType():
                return self._named(node.names, inner_name)
            case c_ast.Struct():
                return Nested(self._struct(node, node.name or inner_name))
            case c_ast.Enum():
                self._enum(node)
                return _ENUM
            case c_ast.PtrDecl():
                what = "a pointer, which means nothing in another process"
            case c_ast.Union():
                what = "a union; say which of its members you want"
            case _:
                what = f"a {type(node).__name__}, which has no size"
        raise InvalidArgument(what, errno=errno.EINVAL)

    def _named(self, words: list[str], inner_name: str) -> CType:
        name = " ".join(sorted(words))
        if name in self._types:
            return self._ctype(self._types[name], inner_name)
        if name == "char":
            return _CHAR
        if name not in _SCALARS:
            what = f"{' '.join(words)}, for which a Struct has no type"
            raise InvalidArgument(what, errno=errno.EINVAL)
        return _SCALARS[name]

    def _array(self, node: Any, inner_name: str) -> CType:
        if node.dim is None:
            what = "an array without a size"
            raise InvalidArgument(what, errno=errno.EINVAL)
        count = checked_count("an array", self._value(node.dim))
        if isinstance(node.type, c_ast.TypeDecl):
            names = getattr(node.type.type, "names", [])
            if names == ["char"]:
                return Text(count)
            if sorted(names) == ["char", "unsigned"]:
                return Raw(count)
        return ArrayOf(self._ctype(node.type, inner_name), count)

    def _enum(self, node: Any) -> None:
        following = 0
        for item in node.values.enumerators if node.values else ():
            following = following if item.value is None else self._value(item.value)
            self._constants[item.name] = following
            following += 1

    def _value(self, node: Any) -> int:  # noqa: PLR0911 - one a kind of expression
        """What an integer constant expression comes to."""
        match node:
            case c_ast.Constant() if "int" in node.type:
                digits = node.value.rstrip("uUlL")
                octal = digits.startswith("0") and digits.isdigit() and len(digits) > 1
                return int(digits, 8 if octal else 0)
            case c_ast.Constant(type="char") if len(node.value) == len("'a'"):
                return ord(node.value[1])
            case c_ast.ID():
                return self._constant(node)
            case c_ast.UnaryOp(op="sizeof"):
                return self._ctype(node.expr, "").size
            case c_ast.UnaryOp(op="-"):
                return -self._value(node.expr)
            case c_ast.UnaryOp(op="+"):
                return self._value(node.expr)
            case c_ast.UnaryOp(op="~"):
                return ~self._value(node.expr)
            case c_ast.BinaryOp():
                return self._binary(node)
            case c_ast.Cast():
                return self._value(node.expr)
            case _:
                _refuse("not an integer constant that can be worked out here", _line(node))

    def _binary(self, node: Any) -> int:
        left, right = self._value(node.left), self._value(node.right)
        if node.op in _OPERATORS:
            return _OPERATORS[node.op](left, right)
        if node.op in ("<<", ">>") and 0 <= right < 64:  # noqa: PLR2004 - bits in C's widest int
            return left << right if node.op == "<<" else left >> right
        if node.op in ("/", "%") and right:
            quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
            return quotient if node.op == "/" else left - right * quotient
        _refuse(f"{node.op} cannot be worked out here", _line(node))

    def _constant(self, node: Any) -> int:
        name = node.name
        if name not in self._constants:
            if name not in self._macros:
                _refuse(f"{name} is not defined", _line(node))
            parsed = _parse(f"int x[{self._macros[name]}];", f"macro {name}")
            macro = self._macros
            self._macros = {other: text for other, text in macro.items() if other != name}
            self._constants[name] = self._value(parsed.ext[-1].type.dim)
            self._macros = macro
        return self._constants[name]


def _parse(text: str, what: str) -> Any:
    try:
        return c_parser.CParser().parse(_PRELUDE + text)
    except (c_parser.ParseError, RecursionError) as error:
        message = f"{what} is not C that can be read: {error}"
        raise InvalidArgument(message, errno=errno.EINVAL) from None


def parse(declaration: str, name: str | None, make: _Make) -> StructType:
    """The struct of some C text.

    Args:
        declaration: the text.
        name: the typedef name or the tag of the struct; None for the last one.
        make: makes a class from its name, its fields and whether it is packed.

    Raises:
        InvalidArgument: as `StructType.from_c` says.
    """
    text, macros = _prepared(declaration)
    translator = _Translator(make, macros)
    for node in _parse(text, "the declaration").ext:
        translator.declare(node)
    found = translator.last if name is None else translator.named.get(name)
    if found is None:
        message = f"the text declares no struct {name}" if name else "the text declares no struct"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return found
