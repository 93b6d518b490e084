/* ChannelBase: the native base class of ipckit.Channel. */
#include "channel/channel.h"

#include <errno.h>
#include <structmember.h>

static PyObject *
channel_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    channel_object *self = (channel_object *)alloc(type, 0);
    if (self != NULL) {
        self->closed = true;
    }
    return (PyObject *)self;
}

/* Closes the channel, and wakes the threads that wait in it. Does nothing if it is closed. The store
   of `closed` pairs with the loads in ring_run and rejoin_after_fork. */
static void
release_channel(channel_object *self)
{
    channel_core *core = self->core;
    __atomic_store_n(&self->closed, true, __ATOMIC_RELEASE);
    self->core = NULL;
    if (core == NULL) {
        return;
    }
    core->memory_fd = -1; /* the handle closes it now; leases may keep the core for longer */
    if (ring_file_is_intact(&core->r)) {
        ring_wake_all(&core->r.shared->items);
        ring_wake_all(&core->r.shared->space);
    }
    ipckit_core_close(core);
}

/* Ends a core's export of its Mapping and drops its reference. */
static void
release_mapping(void *mapping)
{
    ipckit_mapping_end_export(mapping);
    Py_DECREF((PyObject *)mapping);
}

PyDoc_STRVAR(attach_doc,
             "_attach($self, mapping, fd, creator, record_type, encode, decode, spin, wait, /)\n--\n\n"
             "Open the channel in a Mapping. The caller owns the descriptor `fd`, and keeps it open\n"
             "until `_detach`. Raises OSError: EUCLEAN if the memory is not a channel, EUSERS if the\n"
             "channel has the maximum number of peers.");

static PyObject *
channel_attach(channel_object *self, PyTypeObject *defining_class, PyObject *const *args,
               Py_ssize_t nargs, PyObject *Py_UNUSED(kwnames))
{
    native_state *state = PyType_GetModuleState(defining_class);
    int fd;
    long spin;
    if (ipckit_check_nargs("_attach", nargs, 8) < 0 || ipckit_int_arg(args[1], "fd", &fd) < 0
        || ipckit_record_type_arg(args[3], &self->record_type) < 0
        || ipckit_long_arg(args[6], "spin", 0, 1000000, &spin) < 0) {
        self->record_type = NULL;
        return NULL;
    }
    Py_XINCREF(self->record_type);
    if (!Py_IS_TYPE(args[0], state->mapping_type) || self->core != NULL) {
        PyErr_SetString(PyExc_TypeError, self->core != NULL ? "_attach was called before"
                                                            : "mapping is not a Mapping");
        return NULL;
    }
    mapping_object *mapping = (mapping_object *)Py_NewRef(args[0]);
    mapping->exports++;
    self->core = ipckit_core_new(mapping->data, (uint64_t)mapping->size, fd,
                                 PyObject_IsTrue(args[2]) == 1, ipckit_own_token(), release_mapping,
                                 mapping);
    if (self->core == NULL) {
        PyObject *error = errno == ENOMEM ? PyErr_NoMemory() : ipckit_oserror();
        release_mapping(mapping);
        return error;
    }
    self->state = state;
    self->closed = false;
    self->plain = args[5] == Py_None && self->record_type == NULL;
    self->encode = Py_NewRef(args[4]);
    self->decode = args[5] == Py_None ? NULL : Py_NewRef(args[5]);
    self->spin = self->spin_max = (uint32_t)spin;
    self->wait_for_peers = PyObject_IsTrue(args[7]) == 1;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(detach_doc, "_detach($self, /)\n--\n\nClose the channel. Never raises.");

static PyObject *
channel_detach(channel_object *self, PyObject *Py_UNUSED(ignored))
{
    release_channel(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(poll_fd_doc, "_poll_fd($self, which, /)\n--\n\n"
                          "Return a descriptor that is readable when a message waits (POLL_ITEMS) or\n"
                          "when the channel has room (POLL_SPACE). The channel closes it.");

static PyObject *
channel_poll_fd(channel_object *self, PyObject *arg)
{
    long which;
    if (ipckit_long_arg(arg, "which", POLL_ITEMS, POLL_SPACE, &which) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_joined(self, "fileno");
    if (core == NULL) {
        return NULL;
    }
    int fd = ipckit_core_descriptor(core, (uint32_t)which);
    return fd < 0 ? ipckit_channel_oserror(self, "fileno") : PyLong_FromLong(fd);
}

PyDoc_STRVAR(side_doc, "_side($self, role, /)\n--\n\n"
                       "Return whether the channel has a sender (ROLE_SENDER) or a receiver\n"
                       "(ROLE_RECEIVER): SIDE_NEVER_CAME, SIDE_PRESENT or SIDE_GONE.");

static PyObject *
channel_side(channel_object *self, PyObject *arg)
{
    long role;
    if (ipckit_long_arg(arg, "role", ROLE_SENDER, ROLE_RECEIVER, &role) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_unjoined(self, "peers");
    if (core == NULL) {
        return NULL;
    }
    return PyLong_FromLong((long)ring_other_side(&core->r, (uint32_t)role));
}

PyDoc_STRVAR(peers_doc, "_peers($self, /)\n--\n\n"
                        "Return (pid, token, roles, creator, since, sent, received, is_self) for each\n"
                        "live peer.");

static PyObject *
channel_peers(channel_object *self, PyObject *Py_UNUSED(ignored))
{
    /* The list includes this process, so it joins. A forked child uses this to join early. */
    channel_core *core = ipckit_channel_unjoined(self, "peers");
    if (core != NULL) {
        core = ipckit_channel_joined(self, "peers");
    }
    if (core == NULL) {
        return NULL;
    }
    /* Creating a list or tuple may collect garbage, which may run any Python code, such as close. */
    long forks = ipckit_core_acquire(core);
    PyObject *result = PyList_New(0);
    for (uint32_t index = 0; result != NULL && index < CHANNEL_PEERS; index++) {
        const channel_peer *peer = &core->r.peers[index];
        bool self_peer = index == core->r.index;
        if (!peer->joined || (!self_peer && peer_lock_is_free(core->r.fd, index))) {
            continue;
        }
        PyObject *row = Py_BuildValue("IKIIKKKi", peer->pid, (unsigned long long)peer->token,
                                      peer->roles, peer->creator, (unsigned long long)peer->since,
                                      (unsigned long long)peer->sent,
                                      (unsigned long long)peer->received, (int)self_peer);
        if (row == NULL || PyList_Append(result, row) < 0) {
            Py_CLEAR(result);
        }
        Py_XDECREF(row);
    }
    ipckit_core_release(core, forks);
    return result;
}

/* Returns a lock of a side that is held. Senders need two; the other one may be free. */
static const channel_lock *
held_lock(const ring *r, uint32_t which)
{
    const channel_header *shared = r->shared;
    if (which == POLL_ITEMS) {
        return &shared->receive_lock;
    }
    bool sends = __atomic_load_n(&shared->send_lock.owner, __ATOMIC_ACQUIRE) != 0;
    return sends ? &shared->send_lock : &shared->pool_lock;
}

PyDoc_STRVAR(holder_doc, "_lock_holder($self, which, /)\n--\n\n"
                         "Return (pid, token) of the peer that holds a lock that receivers need\n"
                         "(POLL_ITEMS) or that senders need (POLL_SPACE); (0, 0) if there is none.");

static PyObject *
channel_lock_holder(channel_object *self, PyObject *arg)
{
    long which;
    if (ipckit_long_arg(arg, "which", POLL_ITEMS, POLL_SPACE, &which) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_unjoined(self, "peers");
    if (core == NULL) {
        return NULL;
    }
    const channel_lock *lock = held_lock(&core->r, (uint32_t)which);
    uint32_t index = owner_index(__atomic_load_n(&lock->owner, __ATOMIC_ACQUIRE));
    bool known = index < CHANNEL_PEERS;
    return Py_BuildValue("IK", known ? core->r.peers[index].pid : 0,
                         known ? (unsigned long long)core->r.peers[index].token : 0);
}

/* Returns the number of messages that wait in the ring, and sets `*units` to the units in use. Reads
   head before tail, so that tail is never behind it; the loads pair with ring_advance_head and
   ring_publish_tail. Both can change in between, so the results are limited to valid ones. */
static uint64_t
messages_in_ring(const ring *r, uint64_t *units)
{
    uint64_t head = load_word(&r->shared->head), tail = load_word(&r->shared->tail);
    uint64_t from = position_of(head), to = position_of(tail);
    bool valid = ring_position_is_valid(r, from) && ring_position_is_valid(r, to);
    *units = valid ? ring_distance(r, from, to) : 0;
    *units = *units > r->units ? r->units : *units;
    uint64_t waiting = (count_of(tail) - count_of(head)) & COUNT_MASK;
    return waiting > r->capacity ? r->capacity : waiting;
}

/* Returns the number of messages that were returned and wait. */
static uint64_t
messages_returned(const ring *r)
{
    uint64_t returned = 0;
    if (ring_may_have_returned(r)) {
        blocks_count(r, BLOCK_RETURNED, &returned);
    }
    return returned;
}

PyDoc_STRVAR(counts_doc, "_counts($self, /)\n--\n\n"
                         "Return (messages that wait, bytes in use, bytes of message memory, messages\n"
                         "dropped, messages taken and not acknowledged).");

static PyObject *
channel_counts(channel_object *self, PyObject *Py_UNUSED(ignored))
{
    channel_core *core = ipckit_channel_unjoined(self, "stats");
    if (core == NULL) {
        return NULL;
    }
    const ring *r = &core->r;
    uint64_t units, blocks, taken;
    uint64_t waiting = messages_in_ring(r, &units) + messages_returned(r);
    uint64_t granules = blocks_count(r, 0, &blocks);
    blocks_count(r, BLOCK_TAKEN, &taken);
    return Py_BuildValue("KKKKK", (unsigned long long)waiting,
                         (unsigned long long)(units * UNIT + granules * r->granule),
                         (unsigned long long)(r->units * UNIT + r->granules * r->granule),
                         (unsigned long long)load_word(&r->shared->dropped),
                         (unsigned long long)taken);
}

/* len(): the number of messages that wait. */
static Py_ssize_t
channel_length(channel_object *self)
{
    channel_core *core = ipckit_channel_unjoined(self, "len");
    uint64_t units;
    return core == NULL
        ? -1
        : (Py_ssize_t)(messages_in_ring(&core->r, &units) + messages_returned(&core->r));
}

static PyObject *
channel_longest(channel_object *self, void *Py_UNUSED(closure))
{
    channel_core *core = ipckit_channel_open(self, "longest");
    return core == NULL ? NULL : PyLong_FromUnsignedLongLong(core->r.longest);
}

static int
channel_traverse(channel_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->record_type);
    Py_VISIT(self->encode);
    Py_VISIT(self->decode);
    Py_VISIT(self->loan_type);
    Py_VISIT(self->view_type);
    return 0;
}

static void
channel_dealloc(channel_object *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    release_channel(self);
    Py_CLEAR(self->record_type);
    Py_CLEAR(self->encode);
    Py_CLEAR(self->decode);
    Py_CLEAR(self->loan_type);
    Py_CLEAR(self->view_type);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef channel_methods[] = {
    {"send", FAST(ipckit_channel_send), METH_FASTCALL | METH_KEYWORDS, ipckit_channel_send_doc},
    {"receive", FAST(ipckit_channel_receive), METH_FASTCALL | METH_KEYWORDS,
     ipckit_channel_receive_doc},
    {"receive_into", FAST(ipckit_channel_receive_into), METH_FASTCALL | METH_KEYWORDS,
     ipckit_channel_receive_into_doc},
    {"_send_one", FAST(ipckit_channel_send_one), METH_FASTCALL, NULL},
    {"_receive_to", FAST(ipckit_channel_receive_to), METH_FASTCALL, NULL},
    {"_send_batch", FAST(ipckit_channel_send_batch), METH_FASTCALL, NULL},
    {"_receive_batch", FAST(ipckit_channel_receive_batch), METH_FASTCALL, NULL},
    {"loan", FAST(ipckit_channel_loan), METH_FASTCALL | METH_KEYWORDS, ipckit_channel_loan_doc},
    {"receive_view", FAST(ipckit_channel_receive_view), METH_FASTCALL | METH_KEYWORDS,
     ipckit_channel_receive_view_doc},
    {"_lend", FAST(ipckit_channel_lend), METH_FASTCALL, NULL},
    {"_set_in_place", FAST(ipckit_channel_set_in_place), METH_FASTCALL, NULL},
    {"_take", FAST(ipckit_channel_take), METH_FASTCALL, NULL},
    {"_deliver", FAST(ipckit_channel_deliver), METH_FASTCALL, NULL},
    {"_iterate", (PyCFunction)ipckit_channel_iterate, METH_NOARGS, NULL},
    {"_attach", FAST(channel_attach), METH_METHOD | METH_FASTCALL | METH_KEYWORDS, attach_doc},
    {"_detach", (PyCFunction)channel_detach, METH_NOARGS, detach_doc},
    {"_poll_fd", (PyCFunction)channel_poll_fd, METH_O, poll_fd_doc},
    {"_side", (PyCFunction)channel_side, METH_O, side_doc},
    {"_peers", (PyCFunction)channel_peers, METH_NOARGS, peers_doc},
    {"_lock_holder", (PyCFunction)channel_lock_holder, METH_O, holder_doc},
    {"_counts", (PyCFunction)channel_counts, METH_NOARGS, counts_doc},
    {NULL, NULL, 0, NULL},
};

static PyObject *
channel_capacity(channel_object *self, void *Py_UNUSED(closure))
{
    channel_core *core = ipckit_channel_open(self, "capacity");
    return core == NULL ? NULL : PyLong_FromUnsignedLongLong(core->r.capacity);
}

static PyGetSetDef channel_getset[] = {
    {"capacity", (getter)channel_capacity, NULL, PyDoc_STR("The maximum number of messages that wait."), NULL},
    {"longest", (getter)channel_longest, NULL, PyDoc_STR("The maximum bytes of a message."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(channel_doc, "The native base class of Channel.");

static PyType_Slot channel_slots[] = {
    {Py_tp_doc, (void *)channel_doc},
    {Py_tp_new, channel_new},
    {Py_tp_traverse, channel_traverse},
    {Py_tp_dealloc, channel_dealloc},
    {Py_tp_methods, channel_methods},
    {Py_tp_getset, channel_getset},
    {Py_sq_length, channel_length},
    {0, NULL},
};

static PyType_Spec channel_spec = {
    .name = "ipckit._native.ChannelBase",
    .basicsize = sizeof(channel_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = channel_slots,
};

PyDoc_STRVAR(forked_doc, "channels_forked()\n--\n\nUpdate all open channels. A forked child calls it once.");

static PyObject *
native_forked(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    ipckit_cores_forked();
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"channels_forked", native_forked, METH_NOARGS, forked_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_channel(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    state->channel_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &channel_spec, NULL);
    if (state->channel_type == NULL || PyModule_AddType(module, state->channel_type) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
