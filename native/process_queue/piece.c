/* Piece: the memory of one large object of a ProcessQueue, as long as a process has it. When the last
   reference is gone it goes back, in C: no Python code runs in between that a signal could end. */
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
    self->forks = ipckit_spill_forks;
    self->index = index;
    self->size = size;
    return self;
}

static void
piece_dealloc(piece_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->mapped != NULL || self->index >= 0) {
        Py_BEGIN_ALLOW_THREADS
        if (self->mapped != NULL) {
            ipckit_piece_unlink(self); /* first: a fork copies what is linked */
            munmap(self->mapped, self->size);
        }
        ipckit_piece_free(self);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(self->copied);
    Py_DECREF((PyObject *)self->spill);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* The error for a message that refers to memory that no process has written; always -1. */
static int
not_written(const spill_object *spill)
{
    ipckit_ring_error(spill->channel, RING_CORRUPT, "get", NULL);
    return -1;
}

/* Reads the object into memory of its own, and gives the piece back. Returns 0, or -1 with an
   exception set. */
static int
copy_piece(piece_object *self, off_t offset)
{
    self->copied = PyMem_Malloc(self->size);
    if (self->copied == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int fd = self->spill->fd;
    size_t done = 0;
    Py_BEGIN_ALLOW_THREADS
    for (ssize_t got = 1; done < self->size && (got > 0 || (got < 0 && errno == EINTR));) {
        got = pread(fd, self->copied + done, self->size - done, offset + (off_t)done);
        done += got > 0 ? (size_t)got : 0;
    }
    Py_END_ALLOW_THREADS
    ipckit_piece_free(self);
    return done == self->size ? 0 : not_written(self->spill);
}

/* Finds the object's memory. Returns 0, or -1 with an exception set. */
static int
map_piece(piece_object *self)
{
    int fd = self->spill->fd;
    uint64_t offset = spill_offset(self->spill->table, (uint32_t)self->index);
    off_t end = lseek(fd, 0, SEEK_END);
    if (self->size == 0 || self->size > spill_span(self->spill->table, (uint32_t)self->index)
        || end < 0 || offset + self->size > (uint64_t)end) {
        return not_written(self->spill);
    }
    /* Private: what is written in it stays here. */
    void *found = mmap(NULL, self->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, (off_t)offset);
    if (found == MAP_FAILED) { /* vm.max_map_count of them live */
        return copy_piece(self, (off_t)offset);
    }
    self->mapped = found;
    ipckit_piece_link(self);
    return 0;
}

PyObject *
ipckit_piece_received(spill_object *spill, const spill_reference *reference)
{
    if (reference->index >= SPILL_ENTRIES) {
        not_written(spill);
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
        PyErr_Clear(); /* the object is not lost: getbuffer tries again, and says so */
    }
    if (PyErr_Occurred()) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
piece_getbuffer(piece_object *self, Py_buffer *view, int flags)
{
    view->obj = NULL;
    if (self->received && self->mapped == NULL && self->copied == NULL
        && ipckit_piece_is_ours(self) && map_piece(self) < 0) {
        return -1;
    }
    char *data = self->mapped != NULL ? self->mapped : self->copied;
    if (data == NULL) {
        view->obj = NULL;
        PyErr_SetString(PyExc_BufferError, "the piece was not received");
        return -1;
    }
    return PyBuffer_FillInfo(view, (PyObject *)self, data, (Py_ssize_t)self->size, 0, flags);
}

static PyMethodDef piece_methods[] = {
    {"write", (PyCFunction)ipckit_piece_write, METH_O, ipckit_piece_write_doc},
    {"send", (PyCFunction)ipckit_piece_send, METH_O, ipckit_piece_send_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(piece_doc, "The memory of one large object, as long as it is this process's.");

static PyType_Slot piece_slots[] = {
    {Py_tp_doc, (void *)piece_doc},
    {Py_tp_dealloc, piece_dealloc},
    {Py_tp_methods, piece_methods},
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
    int error = ipckit_spill_watch_forks();
    if (error != 0) {
        errno = error;
        ipckit_oserror();
        return -1;
    }
    native_state *state = PyModule_GetState(module);
    state->piece_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &piece_spec, NULL);
    return state->piece_type == NULL ? -1 : PyModule_AddType(module, state->piece_type);
}
