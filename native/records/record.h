/* Record, Field and Layout: memory that Python reads and writes as the fields of a C struct. */
#ifndef IPCKIT_RECORD_H
#define IPCKIT_RECORD_H

#include "native.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The limit keeps the sum of an offset, a size and an object's header from overflowing. */
#define RECORD_SIZE_MAX (PY_SSIZE_T_MAX / 4)

/* How the constructor treats a field. The members of a union share bytes: one of them needs a value, so
   each is optional, and only the first can be given by position. */
typedef enum { MODE_REQUIRED, MODE_OPTIONAL, MODE_KEYWORD_ONLY } field_mode;

/* The layout of one Struct class. Immutable. */
typedef struct {
    PyObject_HEAD
    Py_ssize_t size;    /* C's sizeof */
    Py_ssize_t minimum; /* bytes of the shortest record: `size`, less if there is a flexible array member */
    PyObject *fields;   /* tuple of Field */
    PyObject *defaults; /* dict: the default of each field that has one, by name */
    PyObject *modes;    /* bytes: the field_mode of each field, or None if all are MODE_REQUIRED */
    PyObject *measure;  /* returns the size of a new record from the constructor's arguments; None if all
                           records have `size` bytes */
    Py_ssize_t positional; /* how many fields the constructor takes by position */
} Layout;

/* An instance of a Struct class. `data` points to its own bytes, which follow the object (`own`), or
   into the buffer `lender` of another object, which it keeps exported. */
typedef struct {
    PyObject_VAR_HEAD
    Layout *layout;
    char *data;
    Py_ssize_t size;
    Py_buffer *lender;
    bool readonly;
    _Alignas(max_align_t) char own[];
} Record;

/* The descriptor of one field. `code` is its kind (see field.c); `swap` says whether its bytes are in
   the byte order that this machine does not use. */
typedef struct {
    PyObject_HEAD
    PyTypeObject *record_type; /* Record of the interpreter */
    PyObject *name;
    PyObject *type; /* a Record type, an object with view() and assign(), the members of an enum by their
                       values, or None */
    Py_ssize_t offset;
    Py_ssize_t size;
    int code;
    int first_bit; /* of a bit-field, in its first byte; counted as bits.c says */
    int width;     /* bits of a bit-field; 0 for any other field */
    bool swap;
} Field;

/* The layout of a Record type: a new reference, or NULL with TypeError set. */
HIDDEN Layout *ipckit_layout_of(PyTypeObject *type);
/* Creates a record with `size` bytes of its own, all 0; `layout` is that of `type`, and takes that size. A
   new reference, or NULL with an exception set. */
HIDDEN Record *ipckit_record_new(PyTypeObject *type, Layout *layout, Py_ssize_t size);
/* Whether a record of the layout can have `size` bytes. */
static inline bool
ipckit_layout_takes(const Layout *layout, Py_ssize_t size)
{
    return layout->measure == Py_None ? size == layout->size : size >= layout->minimum;
}
/* Creates a record that is a view of the buffer of `exporter` from `offset` on. A new reference, or NULL
   with an exception set. */
HIDDEN PyObject *ipckit_record_view(PyTypeObject *type, PyObject *exporter, Py_ssize_t offset);

/* constructor.c and record.c: slots of the Record type, which struct_base.c creates. */
HIDDEN int ipckit_record_init(PyObject *record, PyObject *args, PyObject *kwargs);
HIDDEN void ipckit_record_dealloc(PyObject *record);
HIDDEN int ipckit_record_traverse(PyObject *record, visitproc visit, void *arg);
HIDDEN int ipckit_record_getbuffer(PyObject *record, Py_buffer *view, int flags);

/* As `record.field = value`: 0, or -1 with an exception set. */
HIDDEN int ipckit_field_set(Field *field, PyObject *record, PyObject *value);

/* Read or write a field's value. `data` points to the field's bytes in the memory of `record`; the
   caller has checked that they are inside it. */
HIDDEN PyObject *ipckit_value_get(Field *field, PyObject *record, const char *data);
HIDDEN int ipckit_value_set(Field *field, PyObject *record, char *data, PyObject *value);

/* bits.c: read or write the bits of a bit-field as an unsigned number; the store ignores the bits above
   its width. `data` points to the byte in which the bit-field begins. */
HIDDEN uint64_t ipckit_bits_load(const Field *field, const char *data);
HIDDEN void ipckit_bits_store(const Field *field, char *data, uint64_t value);

/* number.c: as ipckit_value_get and ipckit_value_set, for a field of the code i, u, f or ?. */
HIDDEN PyObject *ipckit_number_get(const Field *field, const char *data);
HIDDEN int ipckit_number_set(Field *field, char *data, PyObject *value);
/* Sets TypeError for a value of the wrong type, where `wanted` is such as "an int". Returns -1. */
HIDDEN int ipckit_wrong_type(Field *field, const char *wanted, PyObject *value);

/* Whether two types are Struct classes with the same fingerprint: 1, 0, or -1 with an exception set. */
HIDDEN int ipckit_same_struct(PyTypeObject *one, PyTypeObject *other);

/* Visits the exporter of a buffer, for tp_traverse. It skips a memoryview: the garbage collector could
   clear the memoryview while its buffer is exported, and its deallocation would then follow a null
   pointer. */
static inline int
ipckit_visit_exporter(PyObject *exporter, visitproc visit, void *arg)
{
    if (exporter != NULL && !Py_IS_TYPE(exporter, &PyMemoryView_Type)) {
        Py_VISIT(exporter);
    }
    return 0;
}

#endif
