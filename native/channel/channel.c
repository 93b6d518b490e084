/* ChannelBase: what is native of ipckit.Channel. */
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

static void
release_channel(channel_object *self)
{
    channel_core *core = self->core;
    __atomic_store_n(&self->closed, true, __ATOMIC_RELEASE);
    self->core = NULL;
    if (core != NULL) {
        core->memory_fd = -1; /* the handle closes it now; views may keep the core for longer */
    }
    if (core != NULL) {
        if (ring_file_is_intact(&core->r)) { /* threads that wait look whether it is closed */
            ring_wake_all(&core->r.shared->items);
            ring_wake_all(&core->r.shared->space);
        }
        ipckit_core_close(core);
    }
}

/* Drops a core's reference to its Mapping. */
static void
unmap(void *mapping)
{
    ipckit_mapping_end_export(mapping);
    Py_DECREF((PyObject *)mapping);
}

PyDoc_STRVAR(attach_doc,
             "_attach($self, mapping, fd, creator, record_type, encode, decode, spin, wait, /)\n--\n\n"
             "Open the channel in a Mapping. Its descriptor stays the caller's, who keeps it open until\n"
             "_detach. OSError: EUCLEAN it is no channel, EUSERS it has no place left.");

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
        PyErr_SetString(PyExc_TypeError, "a Mapping is wanted, once");
        return NULL;
    }
    mapping_object *mapping = (mapping_object *)Py_NewRef(args[0]);
    mapping->exports++;
    self->core = ipckit_core_new(mapping->data, (uint64_t)mapping->size, fd,
                                 PyObject_IsTrue(args[2]) == 1, ipckit_own_token(), unmap, mapping);
    if (self->core == NULL) {
        PyObject *error = errno == ENOMEM ? PyErr_NoMemory() : ipckit_oserror();
        unmap(mapping);
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

PyDoc_STRVAR(detach_doc, "_detach($self, /)\n--\n\nLet go of the channel; never raises.");

static PyObject *
channel_detach(channel_object *self, PyObject *Py_UNUSED(ignored))
{
    release_channel(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(poll_fd_doc, "_poll_fd($self, which, /)\n--\n\n"
                          "A descriptor that is readable when there is a message (1) or room (2).");

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
                       "Whether anybody sends (1) or receives (2): 0 never came, 1 yes, 2 gone.");

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
    return PyLong_FromLong((long)ring_side_state(&core->r, (uint32_t)role));
}

PyDoc_STRVAR(peers_doc, "_peers($self, /)\n--\n\n"
                        "(pid, token, roles, creator, since, sent, received, this) of each that lives.");

static PyObject *
channel_peers(channel_object *self, PyObject *Py_UNUSED(ignored))
{
    /* A process that asks who is there is there itself: this is how a forked child joins early. */
    channel_core *core = ipckit_channel_unjoined(self, "peers");
    if (core != NULL) {
        core = ipckit_channel_joined(self, "peers");
    }
    PyObject *result = core == NULL ? NULL : PyList_New(0);
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
    return result;
}

PyDoc_STRVAR(holder_doc, "_lock_holder($self, which, /)\n--\n\n"
                         "(pid, token) of the peer that has the lock of receivers (1) or senders (2);\n"
                         "zeros if none has.");

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
    channel_header *shared = core->r.shared;
    channel_lock *lock = which == POLL_ITEMS ? &shared->receive_lock : &shared->send_lock;
    uint32_t index = owner_index(__atomic_load_n(&lock->owner, __ATOMIC_ACQUIRE));
    bool known = index < CHANNEL_PEERS;
    return Py_BuildValue("IK", known ? core->r.peers[index].pid : 0,
                         known ? (unsigned long long)core->r.peers[index].token : 0);
}

PyDoc_STRVAR(counts_doc, "_counts($self, /)\n--\n\n"
                         "(messages waiting, bytes in use, bytes of the arena, messages dropped).");

static PyObject *
channel_counts(channel_object *self, PyObject *Py_UNUSED(ignored))
{
    channel_core *core = ipckit_channel_unjoined(self, "stats");
    if (core == NULL) {
        return NULL;
    }
    const ring *r = &core->r;
    /* The head first, so that the tail is never behind it. */
    uint64_t head = load_word(&r->shared->head), low_water = load_word(&r->shared->low_water);
    uint64_t tail = load_word(&r->shared->tail), reserve = load_word(&r->shared->reserve);
    uint64_t from = low_water & 1 ? low_water >> 1 : position_of(head);
    uint64_t to = count_of(reserve) != 0 ? position_of(reserve) : position_of(tail);
    uint64_t waiting = (count_of(tail) - count_of(head)) & COUNT_MASK;
    uint64_t used = ring_position_is_valid(r, from) && ring_position_is_valid(r, to) ? ring_distance(r, from, to) : 0;
    return Py_BuildValue("KKKK", (unsigned long long)(waiting > r->capacity ? r->capacity : waiting),
                         (unsigned long long)((used > r->units ? r->units : used) * UNIT),
                         (unsigned long long)(r->units * UNIT),
                         (unsigned long long)load_word(&r->shared->dropped));
}

static Py_ssize_t
channel_length(channel_object *self)
{
    channel_core *core = ipckit_channel_unjoined(self, "len");
    if (core == NULL) {
        return -1;
    }
    uint64_t head = load_word(&core->r.shared->head);
    uint64_t waiting = (load_word(&core->r.shared->tail) - head) & COUNT_MASK;
    return (Py_ssize_t)(waiting > core->r.capacity ? core->r.capacity : waiting);
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
    {"capacity", (getter)channel_capacity, NULL, PyDoc_STR("how many messages can wait"), NULL},
    {"longest", (getter)channel_longest, NULL, PyDoc_STR("bytes of the longest message"), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(channel_doc, "The native base of a channel's handle.");

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

PyDoc_STRVAR(forked_doc, "channels_forked()\n--\n\nUpdate all open channels in a forked child.");

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
