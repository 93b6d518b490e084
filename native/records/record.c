/* Creates and frees records, which have their own bytes or are views of another object's buffer.
   struct_base.c creates the Record type from these functions. */
#include "records/record.h"

#include <string.h>

Record *
ipckit_record_new(PyTypeObject *type, Layout *layout, Py_ssize_t size)
{
    Record *self = (Record *)PyType_GenericAlloc(type, size);
    if (self == NULL) {
        return NULL;
    }
    self->layout = (Layout *)Py_NewRef((PyObject *)layout);
    self->data = self->own;
    self->size = size;
    return self;
}

/* Sets LayoutMismatch for bytes of a size that no record of the type has. */
static void
raise_wrong_size(PyTypeObject *type, const Layout *layout, const char *data, Py_ssize_t size)
{
    const char *least = layout->measure == Py_None ? "" : "at least ";
    PyObject *name = PyType_GetName(type);
    if (name != NULL) {
        ipckit_raise_mismatch(PyUnicode_FromFormat("expected %s%zd bytes for %U, got %zd", least,
                                                   layout->minimum, name, size),
                              data, size);
        Py_DECREF(name);
    }
}

PyObject *
ipckit_record_from_memory(PyTypeObject *type, const char *data, Py_ssize_t size)
{
    Layout *layout = ipckit_layout_of(type);
    if (layout == NULL) {
        return NULL;
    }
    Record *self = NULL;
    if (!ipckit_layout_takes(layout, size)) {
        raise_wrong_size(type, layout, data, size);
    } else {
        self = ipckit_record_new(type, layout, size);
    }
    Py_DECREF((PyObject *)layout);
    if (self != NULL) {
        memcpy(self->data, data, (size_t)size);
    }
    return (PyObject *)self;
}

/* Exports the buffer of `exporter`. Free the result with release_lender. NULL with an exception set. */
static Py_buffer *
borrow(PyObject *exporter)
{
    Py_buffer *lender = PyMem_Calloc(1, sizeof *lender);
    if (lender == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (ipckit_hold_buffer(exporter, lender) == 0) {
        return lender;
    }
    PyMem_Free(lender);
    return NULL;
}

/* Releases the buffer, and frees what borrow allocated. */
static void
release_lender(Py_buffer *lender)
{
    PyBuffer_Release(lender);
    PyMem_Free(lender);
}

/* Checks that `size` bytes at `offset` are inside a buffer of `room` bytes: 0, or -1 with
   InvalidArgument set. */
static int
check_room(PyTypeObject *type, Py_ssize_t size, Py_ssize_t room, Py_ssize_t offset)
{
    if (offset >= 0 && offset <= room && size <= room - offset) {
        return 0;
    }
    PyObject *name = PyType_GetName(type);
    if (name != NULL) {
        ipckit_raise_invalid(PyUnicode_FromFormat(
            "%U needs %zd bytes at offset %zd, but the buffer has %zd", name, size, offset, room));
        Py_DECREF(name);
    }
    return -1;
}

PyObject *
ipckit_record_view(PyTypeObject *type, PyObject *exporter, Py_ssize_t offset)
{
    Layout *layout = ipckit_layout_of(type);
    Py_buffer *lender = layout == NULL ? NULL : borrow(exporter);
    if (lender == NULL) {
        Py_XDECREF((PyObject *)layout);
        return NULL;
    }
    Record *self = NULL;
    if (check_room(type, layout->minimum, lender->len, offset) == 0) {
        self = (Record *)PyType_GenericAlloc(type, 0);
    }
    if (self == NULL) {
        release_lender(lender);
        Py_DECREF((PyObject *)layout);
        return NULL;
    }
    self->layout = layout;
    self->data = (char *)lender->buf + offset;
    self->size = layout->measure == Py_None ? layout->size : lender->len - offset;
    self->lender = lender;
    self->readonly = lender->readonly;
    return (PyObject *)self;
}

int
ipckit_same_struct(PyTypeObject *one, PyTypeObject *other)
{
    PyTypeObject *record_type = ipckit_interpreter()->record_type;
    if (!PyType_IsSubtype(one, record_type) || !PyType_IsSubtype(other, record_type)) {
        return 0;
    }
    PyObject *first = PyObject_GetAttrString((PyObject *)one, "fingerprint");
    PyObject *second =
        first == NULL ? NULL : PyObject_GetAttrString((PyObject *)other, "fingerprint");
    int same = second == NULL ? -1 : PyObject_RichCompareBool(first, second, Py_EQ);
    Py_XDECREF(first);
    Py_XDECREF(second);
    if (same < 0 && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear(); /* a class without fields, such as Struct itself, has no fingerprint */
        return 0;
    }
    return same;
}

void
ipckit_record_dealloc(PyObject *op)
{
    Record *self = (Record *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->lender != NULL) {
        release_lender(self->lender);
    }
    Py_XDECREF((PyObject *)self->layout);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

int
ipckit_record_traverse(PyObject *op, visitproc visit, void *arg)
{
    Record *self = (Record *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->layout);
    return self->lender == NULL ? 0 : ipckit_visit_exporter(self->lender->obj, visit, arg);
}

int
ipckit_record_getbuffer(PyObject *op, Py_buffer *view, int flags)
{
    Record *self = (Record *)op;
    return PyBuffer_FillInfo(view, op, self->data, self->size, self->readonly, flags);
}
