/* Reads and writes the bits of a bit-field, one byte at a time: its bits can begin and end anywhere in a
   byte, and in a packed struct 64 of them can cover nine bytes.

   In a little-endian struct, bit 0 is the lowest bit of the first byte, and a bit-field begins with its
   lowest bit. In a big-endian struct, bit 0 is the highest bit of the first byte, and a bit-field begins
   with its highest bit. gcc and clang do the same on machines of either byte order. */
#include "records/record.h"

static bool
is_big_endian(const Field *field)
{
    return (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) != field->swap;
}

/* The part of a bit-field that lies in one byte. */
typedef struct {
    Py_ssize_t byte;    /* from the field's offset */
    int bits;           /* how many of its bits are in this byte: 1 to 8 */
    int shift_in_byte;  /* of its lowest bit */
    int shift_in_value; /* of the same bit in the number */
} bit_part;

/* The part that begins after `done` bits of the bit-field; `done` is less than its width. */
static bit_part
part_after(const Field *field, int done)
{
    int begin = field->first_bit + done;
    int room = 8 - begin % 8;
    int left = field->width - done;
    bit_part part = {.byte = begin / 8, .bits = left < room ? left : room};
    if (is_big_endian(field)) {
        part.shift_in_byte = room - part.bits;
        part.shift_in_value = left - part.bits;
    } else {
        part.shift_in_byte = begin % 8;
        part.shift_in_value = done;
    }
    return part;
}

static unsigned
mask_of(bit_part part)
{
    return (1u << part.bits) - 1;
}

uint64_t
ipckit_bits_load(const Field *field, const char *data)
{
    uint64_t value = 0;
    for (int done = 0; done < field->width;) {
        bit_part part = part_after(field, done);
        unsigned bits = (uint8_t)data[part.byte] >> part.shift_in_byte & mask_of(part);
        value |= (uint64_t)bits << part.shift_in_value;
        done += part.bits;
    }
    return value;
}

void
ipckit_bits_store(const Field *field, char *data, uint64_t value)
{
    for (int done = 0; done < field->width;) {
        bit_part part = part_after(field, done);
        unsigned mask = mask_of(part) << part.shift_in_byte;
        unsigned bits = (unsigned)(value >> part.shift_in_value) << part.shift_in_byte;
        data[part.byte] = (char)(((uint8_t)data[part.byte] & ~mask) | (bits & mask));
        done += part.bits;
    }
}
