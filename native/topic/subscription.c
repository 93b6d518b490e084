/* SubscriptionBase: the native base class of ipckit.Subscription, which receives the messages of a
   topic. */
#include "channel/channel.h"

#include <errno.h>
#include <structmember.h>

/* Makes the peer a subscriber, as call->data, a topic_wishes, says. Requires send_lock. */
static ring_result
op_subscribe(ring *r, ring_call *call)
{
    return topic_subscribe(r, (const topic_wishes *)(const void *)call->data);
}

/* Copies from the topic what receiving needs. */
static void
adopt_topic(channel_object *self, channel_object *topic, bool wait, uint32_t spin)
{
    self->state = topic->state;
    self->topic = true;
    self->plain = topic->plain;
    self->record_type = Py_XNewRef(topic->record_type);
    self->encode = Py_NewRef(topic->encode);
    self->decode = Py_XNewRef(topic->decode);
    self->spin = self->spin_max = spin;
    self->wait_for_peers = wait;
    self->closed = false;
}

/* Opens a core of its own in the topic's memory, and subscribes. Returns the core, or NULL with an
   exception set. */
static channel_core *
subscribe(channel_object *self, channel_core *topic, const topic_wishes *wishes, PyObject *timeout)
{
    ring_call call;
    if (ipckit_call_init(self, &call, POLL_SPACE, op_subscribe, timeout, "subscribe") < 0) {
        return NULL;
    }
    call.lends = true; /* it has no message for others */
    call.data = (const char *)(const void *)wishes;
    channel_core *core = ipckit_channel_map((mapping_object *)topic->memory_owner, topic->memory_fd,
                                            false, true);
    if (core == NULL) {
        return NULL;
    }
    core->memory_fd = -1; /* the topic closes it */
    ring_add_role(&core->r, ROLE_RECEIVER);
    ring_result result = ipckit_call(core, &call);
    if (result != RING_OK) {
        ipckit_core_close(core);
        ipckit_ring_error(self, result, "subscribe", timeout);
        return NULL;
    }
    core->subscription = true;
    return core;
}

PyDoc_STRVAR(subscribe_doc,
             "_subscribe($self, topic, drops, depth, history, wait, spin, timeout, /)\n--\n\n"
             "Become a subscriber of an open topic. Raises the exceptions of `_explain_ring`, or OSError:\n"
             "EUSERS if the topic has the maximum number of peers.");

static PyObject *
subscription_subscribe(channel_object *self, PyTypeObject *defining_class, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *Py_UNUSED(kwnames))
{
    native_state *state = PyType_GetModuleState(defining_class);
    Py_ssize_t depth, history;
    long spin;
    if (ipckit_check_nargs("_subscribe", nargs, 7) < 0
        || ipckit_size_arg(args[2], "depth", &depth) < 0
        || ipckit_size_arg(args[3], "history", &history) < 0
        || ipckit_long_arg(args[5], "spin", 0, SPIN_LIMIT, &spin) < 0) {
        return NULL;
    }
    channel_object *topic = (channel_object *)args[0];
    if (!PyObject_TypeCheck(args[0], state->topic_type)) {
        PyErr_SetString(PyExc_TypeError, "expected a TopicBase");
        return NULL;
    }
    /* Before the core: testing the truth may run any Python code, which may close the topic. */
    int drops = PyObject_IsTrue(args[1]), wait = PyObject_IsTrue(args[4]);
    if (drops < 0 || wait < 0) {
        return NULL;
    }
    if (self->state != NULL) {
        PyErr_SetString(PyExc_TypeError, "_subscribe was called before");
        return NULL;
    }
    channel_core *core = ipckit_channel_joined(topic, "subscribe");
    if (core == NULL || depth < 1 || (uint64_t)depth > core->r.capacity) {
        if (core != NULL) {
            PyErr_SetString(PyExc_ValueError, "depth must be 1 to the topic's capacity");
        }
        return NULL;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    topic_wishes wishes = {.drops = drops == 1,
                           .depth = (uint64_t)depth,
                           .history = (uint64_t)history,
                           .since = (uint64_t)now.tv_sec};
    adopt_topic(self, topic, wait == 1, (uint32_t)spin);
    long forks = ipckit_core_acquire(core);
    self->core = subscribe(self, core, &wishes, args[6]);
    if (self->core != NULL && core->joined) {
        /* A handle that has subscribed does not count as one that may still publish (ring_side_state). */
        ring_add_role(&core->r, ROLE_RECEIVER);
    }
    ipckit_core_release(core, forks);
    if (self->core == NULL) {
        self->closed = true;
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Returns the core of an open subscription of this process, and its row; NULL with an exception set. */
static channel_core *
own_row(channel_object *self, const char *op, const topic_subscriber **row)
{
    channel_core *core = ipckit_channel_unjoined(self, op);
    *row = core == NULL ? NULL : core->r.subscriber;
    return core;
}

/* len(): the number of unread messages. */
static Py_ssize_t
subscription_length(channel_object *self)
{
    const topic_subscriber *row;
    uint64_t lost;
    channel_core *core = own_row(self, "len", &row);
    return core == NULL ? -1 : (Py_ssize_t)topic_unread(&core->r, row, &lost);
}

static PyObject *
subscription_lost(channel_object *self, void *Py_UNUSED(closure))
{
    const topic_subscriber *row;
    uint64_t lost;
    channel_core *core = own_row(self, "lost", &row);
    if (core == NULL) {
        return NULL;
    }
    topic_unread(&core->r, row, &lost);
    return PyLong_FromUnsignedLongLong(lost);
}

static PyObject *
subscription_position(channel_object *self, void *Py_UNUSED(closure))
{
    const topic_subscriber *row;
    channel_core *core = own_row(self, "position", &row);
    return core == NULL ? NULL : PyLong_FromUnsignedLongLong(load_relaxed(&row->cursor));
}

static PyMethodDef subscription_methods[] = {
    {"receive", FAST(ipckit_channel_receive), METH_FASTCALL | METH_KEYWORDS,
     ipckit_subscription_receive_doc},
    {"receive_into", FAST(ipckit_channel_receive_into), METH_FASTCALL | METH_KEYWORDS,
     ipckit_subscription_receive_into_doc},
    {"receive_view", FAST(ipckit_channel_receive_view), METH_FASTCALL | METH_KEYWORDS,
     ipckit_subscription_receive_view_doc},
    {"_receive_to", FAST(ipckit_channel_receive_to), METH_FASTCALL, NULL},
    {"_receive_batch", FAST(ipckit_channel_receive_batch), METH_FASTCALL, NULL},
    {"_set_in_place", FAST(ipckit_channel_set_in_place), METH_FASTCALL, NULL},
    {"_iterate", (PyCFunction)ipckit_channel_iterate, METH_NOARGS, NULL},
    {"_subscribe", FAST(subscription_subscribe), METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     subscribe_doc},
    {"_detach", (PyCFunction)ipckit_channel_detach, METH_NOARGS, ipckit_channel_detach_doc},
    {"_poll_fd", (PyCFunction)ipckit_channel_poll_fd, METH_O, ipckit_channel_poll_fd_doc},
    {"_side", (PyCFunction)ipckit_channel_side, METH_O, ipckit_channel_side_doc},
    {"_lock_holder", (PyCFunction)ipckit_channel_lock_holder, METH_O,
     ipckit_channel_lock_holder_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef subscription_getset[] = {
    {"lost", (getter)subscription_lost, NULL,
     PyDoc_STR("How many messages this subscriber has missed, exactly.\n\n"
               "They were dropped because it had as many unread messages as it may have, or because their\n"
               "memory was needed. Always 0 if publishers wait for it."), NULL},
    {"_position", (getter)subscription_position, NULL,
     PyDoc_STR("The number of the message that is read next, unless it is lost.\n\n"
               "The topic counts its messages from 0. After a receive it is the message's number plus 1."),
     NULL},
    {"capacity", (getter)ipckit_channel_capacity, NULL,
     PyDoc_STR("The maximum number of messages that a subscriber may leave unread."), NULL},
    {"longest", (getter)ipckit_channel_longest, NULL, PyDoc_STR("The maximum bytes of a message."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(subscription_doc, "The native base class of Subscription.");

static PyType_Slot subscription_slots[] = {
    {Py_tp_doc, (void *)subscription_doc},
    {Py_tp_new, ipckit_channel_new},
    {Py_tp_traverse, ipckit_channel_traverse},
    {Py_tp_dealloc, ipckit_channel_dealloc},
    {Py_tp_methods, subscription_methods},
    {Py_tp_getset, subscription_getset},
    {Py_sq_length, subscription_length},
    {0, NULL},
};

static PyType_Spec subscription_spec = {
    .name = "ipckit._native.SubscriptionBase",
    .basicsize = sizeof(channel_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = subscription_slots,
};

int
ipckit_add_subscription(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    state->subscription_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &subscription_spec, NULL);
    return state->subscription_type == NULL ? -1 : PyModule_AddType(module, state->subscription_type);
}
