/* SharedStruct: a struct in shared memory that is loaded and stored as a whole. The protocol is
   ring/seqlock.h. */
#include "records/record.h"
#include "ring/seqlock.h"

#include <errno.h>
#include <stddef.h>
#include <structmember.h>

/* A load fails only if a writer stores during the few nanoseconds that it takes. So many failures
   in a row mean that a process which is not a writer changes the counter. */
#define LOADS_AT_MOST 1000000

/* A writer has its turn for some nanoseconds. A turn that is still taken after so many tries
   belongs to a writer that died or was stopped. */
#define BEGIN_STORE_TRIES 10000

typedef struct {
    PyObject_HEAD
    PyTypeObject *type;
    Layout *layout;
    Py_buffer memory;
    seqlock_header *lock;
    uint64_t fingerprint;
} shared_struct;

/* The token that names this process to other processes: the PID and the start time, as
   ipckit._core.processes computes it. 0 until `set_writer_token`, which a forked child calls again.
   */
static uint64_t own_token = 0;

/* Atomic, because each interpreter of the process sets it. They all set the same token. */
uint64_t
ipckit_own_token(void)
{
    return __atomic_load_n(&own_token, __ATOMIC_RELAXED);
}

/* The header at `offset` of a buffer that must contain `size` bytes from there. NULL with
   IndexError or ValueError set if it does not, or if the address is not aligned. */
static seqlock_header *
header_at(const Py_buffer *memory, Py_ssize_t offset, size_t size)
{
    if (offset > memory->len || size > (size_t)(memory->len - offset)) {
        PyErr_Format(PyExc_IndexError, "%zu bytes from %zd on are not inside %zd bytes", size,
                     offset, memory->len);
        return NULL;
    }
    char *start = (char *)memory->buf + offset;
    if ((uintptr_t)start % SEQLOCK_ALIGNMENT != 0) {
        PyErr_Format(PyExc_ValueError, "offset %zd is not a multiple of %d", offset,
                     SEQLOCK_ALIGNMENT);
        return NULL;
    }
    return (seqlock_header *)start;
}

/* Acquires the exporter's buffer, which `shared_struct_dealloc` releases, and finds the header in
   it. 0, or -1 with an exception set. */
static int
open_memory(shared_struct *self, PyObject *exporter, Py_ssize_t offset)
{
    if (ipckit_hold_buffer(exporter, &self->memory) < 0) {
        return -1;
    }
    self->lock = header_at(&self->memory, offset, seqlock_total_size((size_t)self->layout->size));
    return self->lock == NULL ? -1 : 0;
}

/* Checks that the memory contains a struct of this layout, or none yet; then writable memory gets
   this layout. Returns 0, or -1 with CallFailed set, whose errno is EBADMSG. */
static int
check_layout(shared_struct *self)
{
    bool ours;
    if (self->memory.readonly) {
        /* Pairs with the exchange in seqlock_claim. */
        uint64_t found = __atomic_load_n(&self->lock->fingerprint, __ATOMIC_ACQUIRE);
        ours = found == 0 || found == self->fingerprint;
    } else {
        ours = seqlock_claim(self->lock, self->fingerprint, (size_t)self->layout->size);
    }
    if (!ours) {
        errno = EBADMSG;
        ipckit_call_failed();
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(shared_struct_doc,
             "SharedStruct(memory, offset, record_type, fingerprint, /)\n--\n\n"
             "CallFailed, EBADMSG: the memory contains a struct of another layout.");

static PyObject *
shared_struct_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *memory, *record_type;
    Py_ssize_t offset;
    unsigned long long fingerprint;
    if (!PyArg_ParseTuple(args, "OnOK:SharedStruct", &memory, &offset, &record_type, &fingerprint)
        || ipckit_record_type_arg(record_type, &record_type) < 0) {
        return NULL;
    }
    if (record_type == NULL || offset < 0 || fingerprint == 0) {
        PyErr_SetString(PyExc_ValueError, "SharedStruct takes a Struct class, an offset and a fingerprint");
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    shared_struct *self = (shared_struct *)alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->type = (PyTypeObject *)Py_NewRef(record_type);
    self->fingerprint = fingerprint;
    self->layout = ipckit_layout_of(self->type);
    if (self->layout != NULL && self->layout->measure != Py_None) {
        PyErr_SetString(PyExc_TypeError, "a struct with a flexible array member has no fixed size");
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    if (self->layout == NULL || open_memory(self, memory, offset) < 0 || check_layout(self) < 0) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
shared_struct_traverse(shared_struct *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->type);
    return ipckit_visit_exporter(self->memory.obj, visit, arg);
}

static void
shared_struct_dealloc(shared_struct *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    PyBuffer_Release(&self->memory);
    Py_CLEAR(self->type);
    Py_XDECREF((PyObject *)self->layout);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* Copies the struct to `to`, which has room for it. 0, or -1 with Corrupt set. */
static int
load_into(shared_struct *self, char *to)
{
    size_t size = (size_t)self->layout->size;
    for (int tries = 0; tries < LOADS_AT_MOST; tries++) {
        if (seqlock_try_load(self->lock, to, size)) {
            return 0;
        }
    }
    return ipckit_raise_corrupt(
        PyUnicode_FromString("the counter of a shared struct keeps changing"));
}

PyDoc_STRVAR(load_doc, "load($self)\n--\n\nA copy of the struct, as one store wrote it.");

static PyObject *
shared_struct_load(shared_struct *self, PyObject *Py_UNUSED(ignored))
{
    Record *record = ipckit_record_new(self->type, self->layout, self->layout->size);
    if (record != NULL && load_into(self, record->data) < 0) {
        Py_DECREF((PyObject *)record);
        return NULL;
    }
    return (PyObject *)record;
}

/* Makes this process the writer, within some microseconds. Returns 0, or -1 with an exception set.
   If another writer keeps its turn, Python's _contended(holder) frees the turn of a dead writer, or
   raises. The caller must call seqlock_end_store. */
static int
begin_store(shared_struct *self)
{
    for (;;) {
        uint64_t token = ipckit_own_token(); /* _contended may have run Python code that forked */
        uint64_t holder = 0;
        for (int tries = 0; tries < BEGIN_STORE_TRIES; tries++) {
            if (seqlock_begin_store(self->lock, token, &holder)) {
                return 0;
            }
        }
        PyObject *freed = PyObject_CallMethod((PyObject *)self, "_contended", "K",
                                              (unsigned long long)holder);
        if (freed == NULL) {
            return -1;
        }
        Py_DECREF(freed);
    }
}

PyDoc_STRVAR(store_doc, "store($self, value, /)\n--\n\n"
                        "Replace the struct as a whole.");

/* Checks that the value has the struct's class and bytes, and that the memory is writable. 0, or -1
   with an exception set. */
static int
check_storable(const shared_struct *self, PyObject *value)
{
    /* The class itself, or the same struct defined again. Not a subclass: `load` would return
       another type. */
    int same = Py_IS_TYPE(value, self->type);
    if (!same && !PyType_IsSubtype(Py_TYPE(value), self->type)) {
        same = ipckit_same_struct(Py_TYPE(value), self->type);
    }
    if (same < 0) {
        return -1;
    }
    if (same == 0) {
        PyErr_Format(PyExc_TypeError, "the value is not an instance of %R", (PyObject *)self->type);
        return -1;
    }
    if (self->memory.readonly) {
        PyErr_SetString(PyExc_TypeError, "the memory is read-only");
        return -1;
    }
    const Record *record = (const Record *)value;
    if (record->data == NULL || record->size != self->layout->size) {
        PyErr_SetString(PyExc_TypeError, "the value has no bytes");
        return -1;
    }
    return 0;
}

static PyObject *
shared_struct_store(shared_struct *self, PyObject *value)
{
    if (check_storable(self, value) < 0) {
        return NULL;
    }
    const Record *record = (const Record *)value;
    if (ipckit_own_token() == 0) {
        PyErr_SetString(PyExc_RuntimeError, "set_writer_token was not called");
        return NULL;
    }
    if (begin_store(self) < 0) {
        return NULL;
    }
    /* _contended may have run Python code. The record's bytes never move, so the pointer is valid.
       */
    seqlock_store(self->lock, record->data, (size_t)record->size);
    seqlock_end_store(self->lock, ipckit_own_token());
    Py_RETURN_NONE;
}

PyDoc_STRVAR(take_over_doc, "take_over($self, dead, /)\n--\n\n"
                            "Free the turn of a writer that is known to be dead. False if it did not have the turn.");

static PyObject *
shared_struct_take_over(shared_struct *self, PyObject *arg)
{
    unsigned long long dead = PyLong_AsUnsignedLongLong(arg);
    if (dead == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    if (self->memory.readonly || dead == 0) {
        Py_RETURN_FALSE;
    }
    return PyBool_FromLong(seqlock_take_over(self->lock, dead, 0));
}

static PyObject *
shared_struct_count(shared_struct *self, void *Py_UNUSED(closure))
{
    /* Pairs with the release of `count` in seqlock_store. */
    return PyLong_FromUnsignedLongLong(__atomic_load_n(&self->lock->count, __ATOMIC_ACQUIRE));
}

static PyGetSetDef shared_struct_getset[] = {
    {"count", (getter)shared_struct_count, NULL, PyDoc_STR("the number of stores, by all processes"), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef shared_struct_methods[] = {
    {"load", (PyCFunction)shared_struct_load, METH_NOARGS, load_doc},
    {"store", (PyCFunction)shared_struct_store, METH_O, store_doc},
    {"take_over", (PyCFunction)shared_struct_take_over, METH_O, take_over_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot shared_struct_slots[] = {
    {Py_tp_doc, (void *)shared_struct_doc},
    {Py_tp_new, shared_struct_new},
    {Py_tp_traverse, shared_struct_traverse},
    {Py_tp_dealloc, shared_struct_dealloc},
    {Py_tp_methods, shared_struct_methods},
    {Py_tp_getset, shared_struct_getset},
    {0, NULL},
};

static PyType_Spec shared_struct_spec = {
    .name = "ipckit._native.SharedStruct",
    .basicsize = sizeof(shared_struct),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = shared_struct_slots,
};

PyDoc_STRVAR(total_size_doc, "shared_struct_size(size, /)\n--\n\n"
                             "The size of a SharedStruct in memory, for a struct of `size` bytes.");

static PyObject *
native_total_size(PyObject *Py_UNUSED(module), PyObject *arg)
{
    Py_ssize_t size;
    if (ipckit_size_arg(arg, "size", &size) < 0) {
        return NULL;
    }
    if (size > RECORD_SIZE_MAX) {
        return PyErr_NoMemory();
    }
    return PyLong_FromSize_t(seqlock_total_size((size_t)size));
}

PyDoc_STRVAR(header_doc, "shared_struct_header(memory, offset, /)\n--\n\n"
                         "The fingerprint and the size of the struct that the memory contains.");

static PyObject *
native_header(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t offset;
    Py_buffer memory;
    if (ipckit_check_nargs("shared_struct_header", nargs, 2) < 0
        || ipckit_size_arg(args[1], "offset", &offset) < 0
        || PyObject_GetBuffer(args[0], &memory, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    const seqlock_header *header = header_at(&memory, offset, sizeof(seqlock_header));
    if (header != NULL) {
        /* Acquire pairs with the exchange in seqlock_claim. The size is only for people: it is
           stored after the exchange, and can still be 0. */
        uint64_t fingerprint = __atomic_load_n(&header->fingerprint, __ATOMIC_ACQUIRE);
        uint64_t size = __atomic_load_n(&header->size, __ATOMIC_RELAXED);
        result = Py_BuildValue("KK", (unsigned long long)fingerprint, (unsigned long long)size);
    }
    PyBuffer_Release(&memory);
    return result;
}

PyDoc_STRVAR(set_token_doc, "set_writer_token(token, /)\n--\n\n"
                            "Set the token that names this process to other processes; not 0.");

static PyObject *
native_set_token(PyObject *Py_UNUSED(module), PyObject *arg)
{
    unsigned long long token = PyLong_AsUnsignedLongLong(arg);
    if (token == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    if (token == 0) {
        PyErr_SetString(PyExc_ValueError, "a token is not 0");
        return NULL;
    }
    __atomic_store_n(&own_token, token, __ATOMIC_RELAXED);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"set_writer_token", native_set_token, METH_O, set_token_doc},
    {"shared_struct_size", native_total_size, METH_O, total_size_doc},
    {"shared_struct_header", (PyCFunction)(void (*)(void))native_header, METH_FASTCALL, header_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_shared_struct(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &shared_struct_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int added = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return added < 0 ? -1 : PyModule_AddFunctions(module, functions);
}
