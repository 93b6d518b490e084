/* Chunks: a file object that collects what a pickler writes. It is in C because a write method in Python
   would take as long as pickling a small object, and io.BytesIO would copy the bytes once more. A pickler
   writes bytes of 64 KiB or more as a chunk of their own, and does not copy them. */
#include "native.h"

typedef struct {
    PyObject_HEAD
    PyObject *first; /* the first chunk as bytes, or NULL: a small object needs no list */
    PyObject *rest;  /* a list of the other chunks, or NULL */
} chunks_object;

PyDoc_STRVAR(write_doc, "write($self, chunk, /)\n--\n\n"
                        "Append a chunk. A chunk that is not bytes is copied, because it may change.");

static PyObject *
chunks_write(chunks_object *self, PyObject *chunk)
{
    PyObject *bytes = PyBytes_CheckExact(chunk) ? Py_NewRef(chunk) : PyBytes_FromObject(chunk);
    if (bytes == NULL) {
        return NULL;
    }
    if (self->first == NULL) {
        self->first = bytes;
        Py_RETURN_NONE;
    }
    if (self->rest == NULL) {
        self->rest = PyList_New(0);
    }
    int failed = self->rest == NULL ? -1 : PyList_Append(self->rest, bytes);
    Py_DECREF(bytes);
    if (failed < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(take_doc, "take($self, /)\n--\n\n"
                       "Return the chunks, and remove them: one as bytes, and several as a list of bytes.");

static PyObject *
chunks_take(chunks_object *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *first = self->first, *rest = self->rest;
    self->first = self->rest = NULL;
    if (first == NULL) {
        return PyBytes_FromStringAndSize(NULL, 0);
    }
    if (rest == NULL) {
        return first;
    }
    if (PyList_Insert(rest, 0, first) < 0) {
        Py_CLEAR(rest);
    }
    Py_DECREF(first);
    return rest;
}

static void
chunks_dealloc(chunks_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    Py_CLEAR(self->first);
    Py_CLEAR(self->rest);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef chunks_methods[] = {
    {"write", (PyCFunction)chunks_write, METH_O, write_doc},
    {"take", (PyCFunction)chunks_take, METH_NOARGS, take_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(chunks_type_doc, "Chunks()\n--\n\nA write-only file object that keeps what is written.");

static PyType_Slot chunks_slots[] = {
    {Py_tp_doc, (void *)chunks_type_doc},
    {Py_tp_methods, chunks_methods},
    {Py_tp_dealloc, chunks_dealloc},
    {0, NULL},
};

static PyType_Spec chunks_spec = {
    .name = "ipckit._native.Chunks",
    .basicsize = sizeof(chunks_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = chunks_slots,
};

int
ipckit_add_chunks(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &chunks_spec, NULL);
    int added = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return added;
}
