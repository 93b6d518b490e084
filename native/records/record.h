/* Record, Field and Layout: memory that Python reads and writes as the fields of a C struct. */
#ifndef IPCKIT_RECORD_H
#define IPCKIT_RECORD_H

#include "native.h"

#include <stdbool.h>
#include <stddef.h>

/* The limit keeps the sum of an offset, a size and an object's header from overflowing. */
#define RECORD_SIZE_MAX (PY_SSIZE_T_MAX / 4)

/* The layout of one Struct class. Immutable. */
typedef struct {
    PyObject_HEAD
    Py_ssize_t size;
    PyObject *fields;   /* tuple of Field */
    PyObject *defaults; /* tuple: the defaults of the last fields */
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
    PyObject *name;
    PyObject *type; /* a Record type, an object with view() and assign(), or None */
    Py_ssize_t offset;
    Py_ssize_t size;
    int code;
    bool swap;
} Field;

/* Created once in a process and never freed: a second import must get the same types. */
extern HIDDEN PyTypeObject *ipckit_record_type;
extern HIDDEN PyTypeObject *ipckit_layout_type;
extern HIDDEN PyTypeObject *ipckit_field_type;

/* The layout of a Record type: a new reference, or NULL with TypeError set. */
HIDDEN Layout *ipckit_layout_of(PyTypeObject *type);
/* Creates a record with its own bytes, all 0; `layout` is that of `type`. A new reference, or NULL with
   an exception set. */
HIDDEN Record *ipckit_record_new(PyTypeObject *type, Layout *layout);
/* As ipckit_record_new, but looks the layout up: NULL with TypeError if the type has none. */
HIDDEN Record *ipckit_record_zeroed(PyTypeObject *type);
/* Creates a record that is a view of the buffer of `exporter` from `offset` on. A new reference, or NULL
   with an exception set. */
HIDDEN PyObject *ipckit_record_view(PyTypeObject *type, PyObject *exporter, Py_ssize_t offset);

/* record.c: slots of the Record type, which struct_base.c creates. */
HIDDEN void ipckit_record_dealloc(PyObject *record);
HIDDEN int ipckit_record_traverse(PyObject *record, visitproc visit, void *arg);
HIDDEN int ipckit_record_getbuffer(PyObject *record, Py_buffer *view, int flags);

/* As `record.field = value`: 0, or -1 with an exception set. */
HIDDEN int ipckit_field_set(Field *field, PyObject *record, PyObject *value);

/* Read or write a field's value. `data` points to the field's bytes in the memory of `record`; the
   caller has checked that they are inside it. */
HIDDEN PyObject *ipckit_value_get(Field *field, PyObject *record, const char *data);
HIDDEN int ipckit_value_set(Field *field, PyObject *record, char *data, PyObject *value);

/* number.c: the same for a field of the code i, u, f or ?. */
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
