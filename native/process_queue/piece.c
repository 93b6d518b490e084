/* Piece: the memory of one large object of a ProcessQueue, which this process owns. Dropping the last
   reference frees it. That is in C, because a signal handler could interrupt Python code. */
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

/* Unmaps the memory and frees the piece, without the GIL: both can take long. */
static void
piece_dealloc(piece_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->mapped != NULL || self->index >= 0) {
        Py_BEGIN_ALLOW_THREADS
        if (self->mapped != NULL) {
            ipckit_piece_unlink(self); /* before munmap: a fork touches the memory of linked pieces */
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

/* Raises Corrupt for a message that refers to memory that no process has written. Returns -1. */
static int
raise_corrupt(const spill_object *spill)
{
    ipckit_ring_error(spill->channel, RING_CORRUPT, "get", NULL);
    return -1;
}

/* Copies the object from the file into `copied`, and frees the piece. Returns 0, or -1 with an exception
   set. */
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
    return done == self->size ? 0 : raise_corrupt(self->spill);
}

/* Maps the object's memory, or copies it if it can't be mapped. Returns 0, or -1 with an exception
   set. */
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
    /* MAP_PRIVATE: what this process writes to the object does not reach the file. */
    void *found = mmap(NULL, self->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, (off_t)offset);
    if (found == MAP_FAILED) { /* such as at the limit vm.max_map_count */
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
    if (self->received && self->mapped == NULL && self->copied == NULL
        && ipckit_piece_is_ours(self) && map_piece(self) < 0) {
        return -1;
    }
    char *data = self->mapped != NULL ? self->mapped : self->copied;
    if (data == NULL) {
        PyErr_SetString(PyExc_BufferError, "the piece was not received, or belongs to the parent process");
        return -1;
    }
    return PyBuffer_FillInfo(view, (PyObject *)self, data, (Py_ssize_t)self->size, 0, flags);
}

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
