/* TopicBase: the native base class of ipckit.Topic, which publishes; and functions for a topic's
   memory. */
#include "channel/channel.h"

#include <structmember.h>

static PyObject *
topic_attach(channel_object *self, PyTypeObject *defining_class, PyObject *const *args,
             Py_ssize_t nargs, PyObject *Py_UNUSED(kwnames))
{
    return ipckit_channel_attach(self, PyType_GetModuleState(defining_class), args, nargs, true);
}

PyDoc_STRVAR(counts_doc, "_counts($self, /)\n--\n\n"
                         "Return (messages kept, bytes in use, bytes of message memory, messages ever\n"
                         "published).");

/* The entries change meanwhile, so the result is limited. */
uint64_t
ipckit_topic_bytes_used(const ring *r, uint64_t head, uint64_t tail)
{
    if (head >= tail) {
        return 0;
    }
    uint64_t units =
        topic_next_position(r, tail) - load_acquire(&topic_entry_of(r, head)->position);
    return (units < r->units ? units : r->units) * UNIT;
}

static PyObject *
topic_counts(channel_object *self, PyObject *Py_UNUSED(ignored))
{
    channel_core *core = ipckit_channel_unjoined(self, "stats");
    if (core == NULL) {
        return NULL;
    }
    const ring *r = &core->r;
    uint64_t head = load_acquire(&r->shared->head), tail = load_acquire(&r->shared->tail), blocks;
    uint64_t kept = tail > head ? tail - head : 0, granules = blocks_count(r, 0, &blocks);
    return Py_BuildValue("KKKK", (unsigned long long)(kept < r->slots ? kept : r->slots),
                         (unsigned long long)(ipckit_topic_bytes_used(r, head, tail) + granules * r->granule),
                         (unsigned long long)(r->units * UNIT + r->granules * r->granule),
                         (unsigned long long)tail);
}

PyDoc_STRVAR(subscribers_doc, "_subscribers($self, /)\n--\n\n"
                              "Return (pid, token, drops, depth, unread, lost, received, since,\n"
                              "same_process) for each live subscriber.");

/* Returns the row of a subscriber, or NULL with an exception set. */
static PyObject *
subscriber_row(const ring *r, const topic_subscriber *member, uint32_t peer_index)
{
    const channel_peer *peer = &r->peers[peer_index];
    uint64_t lost, unread = topic_unread(r, member, &lost);
    return Py_BuildValue("IKiKKKKKi", peer->pid, (unsigned long long)peer->token,
                         (int)(member->drops != 0), (unsigned long long)member->depth,
                         (unsigned long long)unread, (unsigned long long)lost,
                         (unsigned long long)load_acquire(&member->received), (unsigned long long)member->since,
                         (int)(peer->token == r->peers[r->index].token));
}

static PyObject *
topic_subscribers(channel_object *self, PyObject *Py_UNUSED(ignored))
{
    channel_core *core = ipckit_channel_joined(self, "subscribers");
    if (core == NULL || (core = ipckit_channel_unjoined(self, "subscribers")) == NULL) {
        return NULL;
    }
    /* Creating a list or tuple may collect garbage, which may run any Python code, such as close. */
    long forks = ipckit_core_acquire(core);
    PyObject *result = PyList_New(0);
    for (uint32_t place = 0; result != NULL && place < TOPIC_SUBSCRIBERS; place++) {
        const topic_subscriber *member = topic_active(&core->r, place);
        uint32_t owner = member == NULL ? 0 : load_acquire(&member->owner);
        bool valid = false;
        if (owner == 0 || ring_owner_is_dead(&core->r, owner, &valid) || !valid) {
            continue;
        }
        PyObject *row = subscriber_row(&core->r, member, owner_index(owner));
        if (row == NULL || PyList_Append(result, row) < 0) {
            Py_CLEAR(result);
        }
        Py_XDECREF(row);
    }
    ipckit_core_release(core, forks);
    return result;
}

static PyObject *
topic_history(channel_object *self, void *Py_UNUSED(closure))
{
    channel_core *core = ipckit_channel_open(self, "history");
    return core == NULL ? NULL : PyLong_FromUnsignedLongLong(core->r.history);
}

static PyMethodDef topic_methods[] = {
    {"publish", FAST(ipckit_topic_publish), METH_FASTCALL | METH_KEYWORDS, ipckit_topic_publish_doc},
    {"_send_one", FAST(ipckit_channel_send_one), METH_FASTCALL, NULL},
    {"_send_batch", FAST(ipckit_channel_send_batch), METH_FASTCALL, NULL},
    {"loan", FAST(ipckit_channel_loan), METH_FASTCALL | METH_KEYWORDS, ipckit_topic_loan_doc},
    {"_lend", FAST(ipckit_channel_lend), METH_FASTCALL, NULL},
    {"_set_in_place", FAST(ipckit_channel_set_in_place), METH_FASTCALL, NULL},
    {"_attach", FAST(topic_attach), METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     ipckit_channel_attach_doc},
    {"_detach", (PyCFunction)ipckit_channel_detach, METH_NOARGS, ipckit_channel_detach_doc},
    {"_poll_fd", (PyCFunction)ipckit_channel_poll_fd, METH_O, ipckit_channel_poll_fd_doc},
    {"_side", (PyCFunction)ipckit_channel_side, METH_O, ipckit_channel_side_doc},
    {"_peers", (PyCFunction)ipckit_channel_peers, METH_NOARGS, ipckit_channel_peers_doc},
    {"_lock_holder", (PyCFunction)ipckit_channel_lock_holder, METH_O,
     ipckit_channel_lock_holder_doc},
    {"_counts", (PyCFunction)topic_counts, METH_NOARGS, counts_doc},
    {"_subscribers", (PyCFunction)topic_subscribers, METH_NOARGS, subscribers_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef topic_getset[] = {
    {"capacity", (getter)ipckit_channel_capacity, NULL,
     PyDoc_STR("The maximum number of messages that a subscriber may leave unread."), NULL},
    {"history", (getter)topic_history, NULL,
     PyDoc_STR("The number of messages that are kept for new subscribers."), NULL},
    {"longest", (getter)ipckit_channel_longest, NULL, PyDoc_STR("The maximum bytes of a message."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(topic_doc, "The native base class of Topic.");

static PyType_Slot topic_type_slots[] = {
    {Py_tp_doc, (void *)topic_doc},
    {Py_tp_new, ipckit_channel_new},
    {Py_tp_traverse, ipckit_channel_traverse},
    {Py_tp_dealloc, ipckit_channel_dealloc},
    {Py_tp_methods, topic_methods},
    {Py_tp_getset, topic_getset},
    {0, NULL},
};

static PyType_Spec topic_spec = {
    .name = "ipckit._native.TopicBase",
    .basicsize = sizeof(channel_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = topic_type_slots,
};

/* -- memory ------------------------------------------------------------------------------------ */

PyDoc_STRVAR(format_doc,
             "topic_format(mapping, shape, history, fingerprint, id, type, /)\n--\n\n"
             "Format the memory of a Mapping, which must be all zeros, as a topic. `shape` is (units,\n"
             "granules, granule, capacity, item_size, longest).");

static PyObject *
native_format(PyObject *module, PyObject *args)
{
    native_state *state = PyModule_GetState(module);
    PyObject *mapping;
    unsigned long long fingerprint, history, sizes[6];
    const char *id, *type;
    Py_ssize_t id_size;
    if (!PyArg_ParseTuple(args, "O(KKKKKK)KKy#s", &mapping, &sizes[0], &sizes[1], &sizes[2], &sizes[3],
                          &sizes[4], &sizes[5], &history, &fingerprint, &id, &id_size, &type)) {
        return NULL;
    }
    ring_shape shape = {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]};
    mapping_object *memory = (mapping_object *)mapping;
    if (!Py_IS_TYPE(mapping, state->mapping_type) || memory->closed || id_size != 16
        || !topic_shape_is_valid(&shape, history, (uint64_t)memory->size)) {
        PyErr_SetString(PyExc_ValueError, "topic_format takes an open Mapping, the shape of a topic that "
                                          "fits into it, and an id of 16 bytes");
        return NULL;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    ring_identity identity = {
        .magic = TOPIC_MAGIC, .version = TOPIC_VERSION, .history = history, .fingerprint = fingerprint,
        .created = (uint64_t)now.tv_sec, .id = (const uint8_t *)id, .type = type};
    ring_format((channel_header *)memory->data, (uint64_t)memory->size, &shape, &identity);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(type_doc, "topic_type(mapping, /)\n--\n\n"
                       "Return the fingerprint and the text of the payload type, or (None, \"\") if the\n"
                       "memory is not a topic.");

static PyObject *
native_type(PyObject *module, PyObject *mapping)
{
    return ipckit_type_of_memory(module, mapping, true);
}

PyDoc_STRVAR(slots_doc, "topic_slots(capacity, /)\n--\n\n"
                        "Return how many messages a topic of this capacity keeps in its memory.");

static PyObject *
native_slots(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long capacity;
    if (ipckit_long_arg(arg, "capacity", 1, (long)CAPACITY_MAX, &capacity) < 0) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(topic_slots((uint64_t)capacity));
}

PyDoc_STRVAR(bytes_doc, "topic_bytes(units, granules, granule, capacity, /)\n--\n\n"
                        "Return the bytes of a topic with an arena and a pool of these sizes.");

static PyObject *
native_bytes(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long units, granules, granule, capacity;
    if (!PyArg_ParseTuple(args, "KKKK", &units, &granules, &granule, &capacity)) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(topic_bytes(capacity, units, granules, granule));
}

static PyMethodDef functions[] = {
    {"topic_slots", native_slots, METH_O, slots_doc},
    {"topic_bytes", native_bytes, METH_VARARGS, bytes_doc},
    {"topic_type", native_type, METH_O, type_doc},
    {"topic_format", native_format, METH_VARARGS, format_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_topic(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    state->topic_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &topic_spec, NULL);
    if (state->topic_type == NULL || PyModule_AddType(module, state->topic_type) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
