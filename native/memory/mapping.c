/* Mapping: memory from mmap(2) or shmat(2) that stays mapped while a buffer or a view of it exists.

   A Mapping counts its exports: the buffers that consumers of the buffer protocol hold (a
   memoryview, the view of a struct) and the Views. It is unmapped when it is closed and has no
   exports. All functions here need the GIL. */
#include "memory/mapping.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>
#include <sys/mman.h>
#include <sys/shm.h>

/* Returns the memory to the kernel; does nothing if that has been done. There are no exports, and
   the memory must not be accessed afterwards. */
static void
unmap(mapping_object *self)
{
    if (self->base == NULL) {
        return;
    }
    if (self->kind == MAPPED_BY_SHMAT) {
        shmdt(self->base);
    } else {
        munmap(self->base, self->span);
    }
    self->base = NULL;
    self->data = NULL;
}

PyObject *
ipckit_mapping_new(PyObject *module, mapping_kind kind, void *base, size_t span, size_t start,
                   Py_ssize_t size, int protection)
{
    native_state *state = PyModule_GetState(module);
    allocfunc alloc = (allocfunc)PyType_GetSlot(state->mapping_type, Py_tp_alloc);
    mapping_object *self = (mapping_object *)alloc(state->mapping_type, 0);
    if (self == NULL) {
        mapping_object unowned = {.kind = kind, .base = base, .span = span};
        unmap(&unowned);
        return NULL;
    }
    self->kind = kind;
    self->base = base;
    self->span = span;
    self->data = (char *)base + start;
    self->size = size;
    self->protection = protection;
    return (PyObject *)self;
}

/* 0, or -1 with ValueError set if the mapping is closed. */
static int
check_open(const mapping_object *self)
{
    if (!self->closed) {
        return 0;
    }
    PyErr_SetString(PyExc_ValueError, "the mapping is closed");
    return -1;
}

int
ipckit_mapping_begin_export(mapping_object *self)
{
    if (check_open(self) < 0) {
        return -1;
    }
    if (!(self->protection & PROT_READ)) {
        PyErr_SetString(PyExc_BufferError, "the mapping is not readable");
        return -1;
    }
    self->exports++;
    return 0;
}

void
ipckit_mapping_end_export(mapping_object *self)
{
    self->exports--;
    if (self->closed && self->exports == 0) {
        unmap(self);
    }
}

/* Whether the memory cannot be written now; `mprotect` changes it. */
static bool
is_readonly(const mapping_object *self)
{
    return !(self->protection & PROT_WRITE);
}

/* The buffer protocol: begins an export, which `mapping_releasebuffer` ends. 0, or -1 with an
   exception set. */
static int
mapping_getbuffer(mapping_object *self, Py_buffer *view, int flags)
{
    view->obj = NULL; /* the protocol requires it if this fails */
    if (ipckit_mapping_begin_export(self) < 0) {
        return -1;
    }
    if (PyBuffer_FillInfo(view, (PyObject *)self, self->data, self->size, is_readonly(self), flags)
        < 0) {
        ipckit_mapping_end_export(self);
        return -1;
    }
    return 0;
}

static void
mapping_releasebuffer(mapping_object *self, Py_buffer *Py_UNUSED(view))
{
    ipckit_mapping_end_export(self);
}

/* Every export holds a reference to the mapping, so there are none left. */
static void
mapping_dealloc(mapping_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    unmap(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(close_doc, "close($self)\n--\n\n"
                        "Refuse new views. Unmap the memory now, or when the last view is released.");

static PyObject *
mapping_close(mapping_object *self, PyObject *Py_UNUSED(ignored))
{
    self->closed = true;
    if (self->exports == 0) {
        unmap(self);
    }
    Py_RETURN_NONE;
}

int
ipckit_mapping_check_range(const mapping_object *self, Py_ssize_t offset, Py_ssize_t size)
{
    if (check_open(self) < 0) {
        return -1;
    }
    if (offset <= self->size && size <= self->size - offset) {
        return 0;
    }
    PyErr_Format(PyExc_IndexError, "%zd bytes from %zd on are not inside a mapping of %zd bytes",
                 size, offset, self->size);
    return -1;
}

/* Reads the arguments offset and size. Returns 0 if the range is inside the open mapping, or -1
   with an exception set. */
static int
range_args(const mapping_object *self, PyObject *const *args, Py_ssize_t *offset, Py_ssize_t *size)
{
    if (ipckit_size_arg(args[0], "offset", offset) < 0
        || ipckit_size_arg(args[1], "size", size) < 0) {
        return -1;
    }
    /* After the numbers: reading them may run Python code that closes the mapping. */
    return ipckit_mapping_check_range(self, *offset, *size);
}

PyDoc_STRVAR(view_doc, "view($self, offset, size, /)\n--\n\n"
                       "A View of `size` bytes from `offset` on, for the base of a numpy array.");

static PyObject *
mapping_view(mapping_object *self, PyTypeObject *defining_class, PyObject *const *args,
             Py_ssize_t nargs, PyObject *Py_UNUSED(kwnames))
{
    Py_ssize_t offset, size;
    if (ipckit_check_nargs("view", nargs, 2) < 0 || range_args(self, args, &offset, &size) < 0
        || ipckit_mapping_begin_export(self) < 0) {
        return NULL;
    }
    native_state *state = PyType_GetModuleState(defining_class);
    PyObject *view = ipckit_view_new(state, self, offset, size, is_readonly(self));
    if (view == NULL) {
        ipckit_mapping_end_export(self);
    }
    return view;
}

/* Copies bytes that do not overlap; lets other threads run if there are many. The caller has begun
   an export of the mapping, so that no other thread unmaps it. */
static void
copy_bytes(char *to, const char *from, Py_ssize_t size)
{
    if (size > GIL_FREE_BYTES) {
        Py_BEGIN_ALLOW_THREADS
        memcpy(to, from, (size_t)size);
        Py_END_ALLOW_THREADS
    } else {
        memcpy(to, from, (size_t)size);
    }
}

PyDoc_STRVAR(read_doc, "read($self, offset, size, /)\n--\n\nA copy of `size` bytes from `offset` on.");

static PyObject *
mapping_read(mapping_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t offset, size;
    if (ipckit_check_nargs("read", nargs, 2) < 0 || range_args(self, args, &offset, &size) < 0) {
        return NULL;
    }
    PyObject *result = PyBytes_FromStringAndSize(NULL, size);
    if (result == NULL || ipckit_mapping_begin_export(self) < 0) {
        Py_XDECREF(result);
        return NULL;
    }
    copy_bytes(PyBytes_AsString(result), self->data + offset, size);
    ipckit_mapping_end_export(self);
    return result;
}

PyDoc_STRVAR(write_doc, "write($self, offset, data, /)\n--\n\nCopy bytes into the memory from `offset` on.");

/* Copies the bytes of a buffer to `offset`. Returns 0, or -1 with an exception set. */
static int
write_buffer(mapping_object *self, Py_ssize_t offset, const Py_buffer *data)
{
    if (ipckit_mapping_check_range(self, offset, data->len) < 0) {
        return -1;
    }
    if (is_readonly(self)) {
        PyErr_SetString(PyExc_TypeError, "the mapping is read-only");
        return -1;
    }
    if (ipckit_mapping_begin_export(self) < 0) {
        return -1;
    }
    char *to = self->data + offset;
    const char *from = data->buf;
    bool overlap = to + data->len > from && from + data->len > to;
    if (overlap) { /* the buffer is over this memory too */
        memmove(to, from, (size_t)data->len);
    } else {
        copy_bytes(to, from, data->len);
    }
    ipckit_mapping_end_export(self);
    return 0;
}

static PyObject *
mapping_write(mapping_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t offset;
    Py_buffer data;
    if (ipckit_check_nargs("write", nargs, 2) < 0
        || ipckit_size_arg(args[0], "offset", &offset) < 0
        || ipckit_get_buffer(args[1], &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    /* All checks of the mapping come after the buffer was acquired: that may run Python code that
       closes the mapping. */
    int result = write_buffer(self, offset, &data);
    PyBuffer_Release(&data);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMemberDef mapping_members[] = {
    {"size", T_PYSSIZET, offsetof(mapping_object, size), READONLY, PyDoc_STR("the size in bytes")},
    {"protection", T_INT, offsetof(mapping_object, protection), READONLY,
     PyDoc_STR("the present PROT_READ and PROT_WRITE")},
    {"closed", T_BOOL, offsetof(mapping_object, closed), READONLY,
     PyDoc_STR("whether close was called")},
    {"exports", T_PYSSIZET, offsetof(mapping_object, exports), READONLY,
     PyDoc_STR("the number of buffers and views of the memory")},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(mapping_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *
mapping_address(mapping_object *self, void *Py_UNUSED(closure))
{
    return check_open(self) < 0 ? NULL : PyLong_FromVoidPtr(self->data);
}

static PyGetSetDef mapping_getset[] = {
    {"address", (getter)mapping_address, NULL, PyDoc_STR("the address in this process"), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef mapping_methods[] = {
    {"close", (PyCFunction)mapping_close, METH_NOARGS, close_doc},
    {"view", (PyCFunction)(void (*)(void))mapping_view,
     METH_METHOD | METH_FASTCALL | METH_KEYWORDS, view_doc},
    {"read", (PyCFunction)(void (*)(void))mapping_read, METH_FASTCALL, read_doc},
    {"write", (PyCFunction)(void (*)(void))mapping_write, METH_FASTCALL, write_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(mapping_doc, "Memory from mmap or shmat; unmapped when it is closed and has no views.");

static PyType_Slot mapping_slots[] = {
    {Py_tp_doc, (void *)mapping_doc},
    {Py_tp_dealloc, mapping_dealloc},
    {Py_tp_methods, mapping_methods},
    {Py_tp_members, mapping_members},
    {Py_tp_getset, mapping_getset},
    {Py_bf_getbuffer, mapping_getbuffer},
    {Py_bf_releasebuffer, mapping_releasebuffer},
    {0, NULL},
};

static PyType_Spec mapping_spec = {
    .name = "ipckit._native.Mapping",
    .basicsize = sizeof(mapping_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = mapping_slots,
};

int
ipckit_add_mapping(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    state->mapping_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &mapping_spec, NULL);
    if (state->mapping_type == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->mapping_type);
}
