/* SpillFile: the file with a ProcessQueue's objects for which its channel has no block. Its table says
   which process owns each piece (ring/spill_table.h). */
#include "process_queue/spill.h"
#include "process_queue/tasks.h"

#include <fcntl.h>
#include <stddef.h>
#include <structmember.h>
#include <sys/mman.h>

/* The ring's on_take (ring/ring.h). Requires receive_lock. */
static void
on_take(void *table, const char *data, uint64_t length)
{
    spill_take_from_queue(table, data, length, ipckit_own_token());
}

/* Maps the table of the file, and formats it if the file is `fresh`. Returns 0, or -1 with errno. */
static int
map_table(spill_object *self, bool fresh)
{
    if (fresh && ftruncate(self->fd, SPILL_DATA_START) < 0) {
        return -1;
    }
    off_t size = lseek(self->fd, 0, SEEK_END);
    if (size < (off_t)SPILL_DATA_START) {
        errno = size < 0 ? errno : EUCLEAN;
        return -1;
    }
    void *table = mmap(NULL, SPILL_DATA_START, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
    if (table == MAP_FAILED) {
        return -1;
    }
    self->table = table;
    if (fresh) {
        spill_format(self->table);
    }
    return 0;
}

static PyObject *
spill_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *channel;
    int fd, fresh;
    native_state *state = PyType_GetModuleState(type);
    if (kwargs != NULL && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "SpillFile takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!ip:SpillFile", state->channel_type, &channel, &fd, &fresh)) {
        return NULL;
    }
    if (!SPILL_IS_TOKEN(ipckit_own_token())) {
        PyErr_SetString(PyExc_RuntimeError, "this process has no token");
        return NULL;
    }
    channel_core *core = ipckit_channel_joined((channel_object *)channel, "open");
    if (core == NULL) {
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    spill_object *self = (spill_object *)alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (self->fd < 0 || map_table(self, fresh) < 0) {
        ipckit_oserror();
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    self->state = state;
    self->channel = (channel_object *)Py_NewRef(channel);
    core->r.on_take_data = self->table;
    core->r.on_take = on_take;
    return (PyObject *)self;
}

static void
spill_dealloc(spill_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->channel != NULL) {
        if (self->channel->core != NULL) {
            self->channel->core->r.on_take = NULL;
        }
        Py_DECREF((PyObject *)self->channel);
    }
    if (self->table != NULL) {
        munmap(self->table, SPILL_DATA_START);
    }
    if (self->fd >= 0) {
        close(self->fd);
    }
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

void
ipckit_spill_release(const spill_object *self, uint32_t index, uint64_t token)
{
    spill_table *table = self->table;
    spill_entry *entry = &table->entries[index];
    if (spill_load(&entry->word) != token) {
        return;
    }
    uint64_t span = spill_span(table, index);
    if (span != 0) {
        /* If this fails, the memory stays allocated until the piece is used again. Nothing else is
           wrong then. */
        (void)fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        (off_t)spill_offset(table, index), (off_t)span);
    }
    __atomic_store_n(&entry->taken, 0, __ATOMIC_RELAXED); /* spill_change publishes it */
    if (spill_change(entry, token, SPILL_FREE)) {
        spill_hint(table, index);
    }
}

/* Returns log2 of the size of the smallest piece for `size` bytes; SPILL_CLASSES if there is none. */
static uint32_t
class_for(uint64_t size)
{
    uint32_t log2 = SPILL_CLASS_MIN;
    while (log2 < SPILL_CLASSES && UINT64_C(1) << log2 < size) {
        log2++;
    }
    return log2;
}

/* Claims a piece for this process. Returns its index; or SPILL_ENTRIES with `*sweep` true if the caller
   should first reclaim the pieces of dead processes, or with `*sweep` false if the table is full. Never
   asks for a sweep if `*sweep` is false before. */
static uint32_t
claim(spill_object *self, uint64_t size, bool *sweep)
{
    spill_table *table = self->table;
    uint64_t token = ipckit_own_token();
    uint32_t log2 = class_for(size);
    bool force = !*sweep;
    *sweep = false;
    if (log2 == SPILL_CLASSES) {
        return SPILL_ENTRIES;
    }
    uint32_t index = spill_claim_used(table, log2, token);
    if (index != SPILL_ENTRIES) {
        return index;
    }
    /* Relaxed: sweep_at is only a hint. */
    *sweep = !force && spill_high(table) >= __atomic_load_n(&table->sweep_at, __ATOMIC_RELAXED);
    return *sweep ? SPILL_ENTRIES : spill_claim_new(table, log2, token);
}

PyDoc_STRVAR(claim_doc,
             "claim($self, size, force, /)\n--\n\n"
             "Claim a Piece of `size` bytes. Return None, unless `force` is true, if the caller should\n"
             "first reclaim the pieces of dead processes (`owners`, `reclaim`). Raise OSError (ENOSPC)\n"
             "if the table is full.");

static PyObject *
spill_claim(spill_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t size;
    if (ipckit_check_nargs("claim", nargs, 2) < 0
        || ipckit_size_arg(args[0], "size", &size) < 0) {
        return NULL;
    }
    int force = PyObject_IsTrue(args[1]);
    if (force < 0) {
        return NULL;
    }
    bool sweep = !force;
    uint32_t index = claim(self, (uint64_t)size, &sweep);
    if (sweep) {
        Py_RETURN_NONE;
    }
    if (index == SPILL_ENTRIES) {
        errno = ENOSPC;
        return ipckit_oserror();
    }
    return (PyObject *)ipckit_piece_new(self, index, (uint64_t)size);
}

PyDoc_STRVAR(take_doc,
             "take($self, holder, timeout, /)\n--\n\n"
             "Take the next message as `ChannelBase._take`. If it refers to a piece, return the Piece,\n"
             "or None if a process was killed while it took the same message before.");

static PyObject *
spill_take(spill_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *value = ipckit_channel_take(self->channel, args, nargs);
    spill_reference reference;
    if (value == NULL || !PyBytes_CheckExact(value) || PyBytes_Size(value) != sizeof reference) {
        return value;
    }
    memcpy(&reference, PyBytes_AsString(value), sizeof reference);
    if (reference.magic != SPILL_MAGIC) {
        return value;
    }
    Py_DECREF(value);
    PyObject *piece = ipckit_piece_received(self, &reference);
    if (piece == Py_None && ipckit_tasks_broken(self) < 0) {
        Py_CLEAR(piece);
    }
    return piece;
}

PyDoc_STRVAR(owners_doc, "owners($self)\n--\n\nReturn the tokens of all other processes that own pieces.");

static PyObject *
spill_owners(spill_object *self, PyObject *Py_UNUSED(ignored))
{
    uint32_t high = spill_high(self->table);
    uint64_t last = ipckit_own_token(), own = last;
    PyObject *found = PySet_New(NULL);
    for (uint32_t index = 0; found != NULL && index < high; index++) {
        uint64_t word = spill_load(&self->table->entries[index].word);
        if (!SPILL_IS_TOKEN(word) || word == last || word == own) {
            continue;
        }
        last = word;
        PyObject *token = PyLong_FromUnsignedLongLong(word);
        if (token == NULL || PySet_Add(found, token) < 0) {
            Py_CLEAR(found);
        }
        Py_XDECREF(token);
    }
    return found;
}

/* Tells whether a set of integers has a token. Returns -1 with an exception set on failure. */
static int
has_token(PyObject *tokens, uint64_t word)
{
    PyObject *token = PyLong_FromUnsignedLongLong(word);
    int found = token == NULL ? -1 : PySet_Contains(tokens, token);
    Py_XDECREF(token);
    return found;
}

PyDoc_STRVAR(reclaim_doc,
             "reclaim($self, tokens, /)\n--\n\n"
             "Free the pieces of dead processes, given a set of their tokens, and the pieces of the\n"
             "queue that no message refers to.");

static PyObject *
spill_reclaim(spill_object *self, PyObject *dead)
{
    channel_core *core = ipckit_channel_joined(self->channel, "put");
    if (core == NULL) {
        return NULL;
    }
    uint64_t own = ipckit_own_token();
    uint32_t high = spill_high(self->table), held = 0;
    for (uint32_t index = 0; index < high; index++) {
        spill_entry *entry = &self->table->entries[index];
        uint64_t word = spill_load(&entry->word);
        if (word == SPILL_FREE) {
            spill_hint(self->table, index); /* its process may have died before it did this */
            continue;
        }
        int owner_dead = SPILL_IS_TOKEN(word) && word != own ? has_token(dead, word) : 0;
        if (owner_dead < 0) {
            return NULL;
        }
        if ((owner_dead || spill_is_orphan(&core->r, word)) && spill_change(entry, word, own)) {
            ipckit_spill_release(self, index, own);
        } else {
            held++;
        }
    }
    /* The table may grow by as many entries as are in use before the next sweep. Relaxed: sweep_at is
       only a hint. */
    uint32_t least = held > SPILL_SWEEP_MIN ? held : SPILL_SWEEP_MIN;
    __atomic_store_n(&self->table->sweep_at, high + least, __ATOMIC_RELAXED);
    Py_RETURN_NONE;
}

static PyMemberDef spill_members[] = {
    {"fd", T_INT, offsetof(spill_object, fd), READONLY, PyDoc_STR("The file's descriptor.")},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef spill_methods[] = {
    {"claim", (PyCFunction)(void (*)(void))spill_claim, METH_FASTCALL, claim_doc},
    {"take", (PyCFunction)(void (*)(void))spill_take, METH_FASTCALL, take_doc},
    {"send_parts", (PyCFunction)(void (*)(void))ipckit_spill_send_parts, METH_FASTCALL,
     ipckit_spill_send_parts_doc},
    {"owners", (PyCFunction)spill_owners, METH_NOARGS, owners_doc},
    {"reclaim", (PyCFunction)spill_reclaim, METH_O, reclaim_doc},
    {"task_done", (PyCFunction)ipckit_tasks_done, METH_NOARGS, ipckit_tasks_done_doc},
    {"tasks", (PyCFunction)ipckit_tasks_count, METH_NOARGS, ipckit_tasks_count_doc},
    {"join", (PyCFunction)ipckit_tasks_join, METH_O, ipckit_tasks_join_doc},
    {"note_waiting", (PyCFunction)ipckit_tasks_note_waiting, METH_O, ipckit_tasks_note_waiting_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(spill_doc,
             "SpillFile(channel, fd, fresh, /)\n--\n\n"
             "The file with a ProcessQueue's objects for which its channel has no block. Duplicates the\n"
             "descriptor `fd`.");

static PyType_Slot spill_slots[] = {
    {Py_tp_doc, (void *)spill_doc},
    {Py_tp_new, spill_new},
    {Py_tp_dealloc, spill_dealloc},
    {Py_tp_methods, spill_methods},
    {Py_tp_members, spill_members},
    {0, NULL},
};

static PyType_Spec spill_spec = {
    .name = "ipckit._native.SpillFile",
    .basicsize = sizeof(spill_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = spill_slots,
};

int
ipckit_add_spill(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spill_spec, NULL);
    int added = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return added;
}
