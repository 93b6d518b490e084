"""`explained` finds types and rules that give a layout back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ipckit import structs
from ipckit._payload.c_types import BitField, CType, Scalar
from ipckit._payload.placement import Places, bits_of, explained, lay_out

SCALARS = [kind for name in structs.__all__ if isinstance(kind := getattr(structs, name), Scalar)]
INTEGERS = [kind for kind in SCALARS if kind.code in "iu"]


@st.composite
def members(draw: st.DrawFn) -> CType:
    if draw(st.booleans()):
        return draw(st.sampled_from(SCALARS))
    unit = draw(st.sampled_from(INTEGERS))
    return BitField(unit, draw(st.integers(1, 8 * unit.size)))


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[CType], Places, bool]:
    """Members in any places that do not overlap, as attributes and pragmas can give."""
    types = draw(st.lists(members(), min_size=1, max_size=8))
    union = draw(st.booleans())
    bits: list[int] = []
    end = 0
    for ctype in types:
        gap = draw(st.integers(0, 40)) if draw(st.booleans()) else 0
        bit = 0 if union else end + gap
        if not isinstance(ctype, BitField):
            bit = -(-bit // 8) * 8
        bits.append(bit)
        end = max(end, bit + bits_of(ctype))
    alignment = draw(st.sampled_from([1, 2, 4, 8, 16, 64]))
    size = -(-end // 8) + draw(st.integers(0, 20))
    return types, Places(tuple(bits), -(-size // alignment) * alignment, alignment), union


@settings(max_examples=100, deadline=None)
@given(layouts())
def test_explained_gives_the_places_back(layout: tuple[list[CType], Places, bool]) -> None:
    types, places, union = layout
    found, rules = explained(types, places, union=union)
    assert lay_out(found, rules) == places
    assert list(map(bits_of, found)) == list(map(bits_of, types))
