/* Piece: the memory of one object of a ProcessQueue in its spill file, which this process owns. Dropping
   the last reference frees it. That is in C, because a signal handler could interrupt Python code. */
#include "process_queue/spill.h"

#include <sys/mman.h>

piece_object *
ipckit_piece_new(spill_object *spill, uint32_t index, uint64_t size)
{
    uint64_t token = ipckit_own_token();
    allocfunc alloc = (allocfunc)PyType_GetSlot(spill->state->piece_type, Py_tp_alloc);
    piece_object *self = (piece_object *)alloc(spill->state->piece_type, 0);
    if (self == NULL) {
        ipckit_spill_release(spill, index, token);
        return NULL;
    }
    self->spill = (spill_object *)Py_NewRef((PyObject *)spill);
    self->token = token;
    self->index = index;
    self->size = size;
    return self;
}

bool
ipckit_piece_is_ours(const piece_object *self)
{
    return self->index >= 0 && self->token == ipckit_own_token();
}

/* Unmaps the memory and frees the piece, without the GIL: both can take long. */
static void
piece_dealloc(piece_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    Py_BEGIN_ALLOW_THREADS
    if (self->mapped != NULL) {
        munmap(self->mapped, self->size);
    }
    if (ipckit_piece_is_ours(self)) {
        ipckit_spill_release(self->spill, (uint32_t)self->index, self->token);
    }
    Py_END_ALLOW_THREADS
    Py_DECREF((PyObject *)self->spill);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* Raises Corrupt for a message that refers to memory that no process has written. Returns -1. */
static int
raise_corrupt(const spill_object *spill)
{
    ipckit_ring_error(spill->channel, RING_CORRUPT, "get", NULL);
    return -1;
}

/* Maps the object's memory. Returns 0, or -1 with an exception set. */
static int
map_piece(piece_object *self)
{
    int fd = self->spill->fd;
    uint64_t offset = spill_offset(self->spill->table, (uint32_t)self->index);
    off_t end = lseek(fd, 0, SEEK_END);
    if (self->size == 0 || self->size > spill_span(self->spill->table, (uint32_t)self->index)
        || end < 0 || offset + self->size > (uint64_t)end) {
        return raise_corrupt(self->spill);
    }
    void *found = MAP_FAILED;
    Py_BEGIN_ALLOW_THREADS
    found = mmap(NULL, self->size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, (off_t)offset);
    Py_END_ALLOW_THREADS
    if (found == MAP_FAILED) { /* such as at the limit vm.max_map_count */
        PyErr_NoMemory();
        return -1;
    }
    self->mapped = found;
    return 0;
}

PyObject *
ipckit_piece_received(spill_object *spill, const spill_reference *reference)
{
    if (reference->index >= SPILL_ENTRIES) {
        raise_corrupt(spill);
        return NULL;
    }
    const spill_entry *entry = &spill->table->entries[reference->index];
    if (spill_load(&entry->word) != ipckit_own_token()
        || spill_load(&entry->taken) != reference->word) {
        Py_RETURN_NONE;
    }
    piece_object *self = ipckit_piece_new(spill, (uint32_t)reference->index, reference->size);
    if (self == NULL) {
        return NULL;
    }
    self->received = true;
    if (map_piece(self) < 0 && PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear(); /* the object is not lost: piece_getbuffer tries again, and raises it */
    }
    if (PyErr_Occurred()) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* Exports the memory of a received object. Tries to map it again if there was no memory before. */
static int
piece_getbuffer(piece_object *self, Py_buffer *view, int flags)
{
    view->obj = NULL;
    if (self->mapped == NULL) {
        if (!self->received || !ipckit_piece_is_ours(self)) {
            PyErr_SetString(PyExc_BufferError,
                            "the piece was not received, or belongs to the parent process");
            return -1;
        }
        if (map_piece(self) < 0) {
            return -1;
        }
    }
    return PyBuffer_FillInfo(view, (PyObject *)self, self->mapped, (Py_ssize_t)self->size, 1, flags);
}

static PyObject *
piece_buf(piece_object *self, void *Py_UNUSED(closure))
{
    return PyMemoryView_FromObject((PyObject *)self);
}

static PyObject *
piece_is_ours(piece_object *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(ipckit_piece_is_ours(self));
}

static PyGetSetDef piece_getset[] = {
    {"buf", (getter)piece_buf, NULL, PyDoc_STR("The memory of a received object, to be read."), NULL},
    {"_is_ours", (getter)piece_is_ours, NULL,
     PyDoc_STR("Whether this process owns the piece, and not its parent."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef piece_methods[] = {
    {"write", (PyCFunction)ipckit_piece_write, METH_O, ipckit_piece_write_doc},
    {"send", (PyCFunction)ipckit_piece_send, METH_O, ipckit_piece_send_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(piece_doc, "The memory of one large object, which this process owns.");

static PyType_Slot piece_slots[] = {
    {Py_tp_doc, (void *)piece_doc},
    {Py_tp_dealloc, piece_dealloc},
    {Py_tp_methods, piece_methods},
    {Py_tp_getset, piece_getset},
    {Py_bf_getbuffer, piece_getbuffer},
    {0, NULL},
};

static PyType_Spec piece_spec = {
    .name = "ipckit._native.Piece",
    .basicsize = sizeof(piece_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = piece_slots,
};

int
ipckit_add_spill_piece(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    state->piece_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &piece_spec, NULL);
    return state->piece_type == NULL ? -1 : PyModule_AddType(module, state->piece_type);
}
