/* Records: bytes that Python reads and writes as the fields of a C struct. */
#ifndef IPCKIT_RECORD_H
#define IPCKIT_RECORD_H

#include "native.h"

#include <stdbool.h>
#include <stddef.h>

/* So that no sum of an offset and a size, nor an object's header on top, can overflow. */
#define RECORD_SIZE_MAX (PY_SSIZE_T_MAX / 4)

/* What one Struct class says about its bytes; immutable. */
typedef struct {
    PyObject_HEAD
    Py_ssize_t size;
    PyObject *fields;   /* tuple of Field */
    PyObject *defaults; /* tuple: of the last so many fields */
} Layout;

/* Its bytes are its own and follow it, or are `lender`'s and live as long as that buffer is held. */
typedef struct {
    PyObject_VAR_HEAD
    Layout *layout;
    char *data;
    Py_ssize_t size;
    Py_buffer *lender;
    bool readonly;
    _Alignas(max_align_t) char own[];
} Record;

typedef struct {
    PyObject_HEAD
    PyObject *name;
    PyObject *type; /* a Record type, an object with view() and assign(), or None */
    Py_ssize_t offset;
    Py_ssize_t size;
    int code;
    bool swap;
} Field;

/* Made once a process and never freed, so that a second import cannot split them in two. */
extern HIDDEN PyTypeObject *ipckit_record_type;
extern HIDDEN PyTypeObject *ipckit_layout_type;
extern HIDDEN PyTypeObject *ipckit_field_type;

/* The layout of a Record type, borrowed from nobody: a new reference, or NULL. */
HIDDEN Layout *ipckit_layout_of(PyTypeObject *type);
/* A record of `type` with bytes of its own, all 0; `layout` is the type's. */
HIDDEN Record *ipckit_record_new(PyTypeObject *type, Layout *layout);
/* The same, with the layout looked up: NULL with TypeError if the type has none. */
HIDDEN Record *ipckit_record_zeroed(PyTypeObject *type);
/* A record of `type` over the bytes of `exporter` from `offset` on. */
HIDDEN PyObject *ipckit_record_view(PyTypeObject *type, PyObject *exporter, Py_ssize_t offset);

/* record.c: slots of the Record type, which struct_base.c makes. */
HIDDEN void ipckit_record_dealloc(PyObject *record);
HIDDEN int ipckit_record_traverse(PyObject *record, visitproc visit, void *arg);
HIDDEN int ipckit_record_getbuffer(PyObject *record, Py_buffer *view, int flags);

/* As `record.field = value`: 0, or -1 with an exception set. */
HIDDEN int ipckit_field_set(Field *field, PyObject *record, PyObject *value);

/* `data` is where the field's bytes are: `record`'s memory, already checked against its size. */
HIDDEN PyObject *ipckit_value_get(Field *field, PyObject *record, const char *data);
HIDDEN int ipckit_value_set(Field *field, PyObject *record, char *data, PyObject *value);

/* number.c: the same for a field of code i, u, f or ?. */
HIDDEN PyObject *ipckit_number_get(const Field *field, const char *data);
HIDDEN int ipckit_number_set(Field *field, char *data, PyObject *value);
/* TypeError for a value of the wrong type; always -1. */
HIDDEN int ipckit_wrong_type(Field *field, const char *wanted, PyObject *value);

/* Whether two types are Structs of one fingerprint, which makes them the same type: 1, 0, or -1 with
   an exception set. */
HIDDEN int ipckit_same_struct(PyTypeObject *one, PyTypeObject *other);

/* tp_traverse's visit of what a held buffer belongs to. Not of a memoryview: the garbage collector
   would clear it under its exported buffer, and its deallocation then follows a null pointer. */
static inline int
ipckit_visit_exporter(PyObject *exporter, visitproc visit, void *arg)
{
    if (exporter != NULL && !Py_IS_TYPE(exporter, &PyMemoryView_Type)) {
        Py_VISIT(exporter);
    }
    return 0;
}

#endif
