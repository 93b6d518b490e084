/* ChannelBase._deliver: takes a message that the receiver acknowledges later. */
#include "channel/channel.h"

/* Takes the next message, to be acknowledged. Sets call->items to 1 if there is a message but no memory
   to take it, otherwise to 0. Returns as ring_peek, or as ring_take_delivery. Requires receive_lock. */
static ring_result
op_deliver(ring *r, ring_call *call)
{
    ring_result result = ring_peek(r, &call->message);
    result = result == RING_OK ? ring_take_delivery(r, &call->message) : result;
    call->items = result == RING_FULL;
    return result;
}

/* Returns the messages that dead peers had taken, because they are received before all others. */
static void
return_messages_of_dead_peers(ring *r)
{
    bool wanted = load_relaxed(&r->shared->recovery_wanted);
    if (wanted || ring_taker_is_dead(r)) {
        Py_BEGIN_ALLOW_THREADS
        ring_side_state(r, 0);
        ring_recover_if_wanted(r);
        Py_END_ALLOW_THREADS
    }
}

/* _deliver(holder, timeout): takes the next message as an instance of `holder`, a subclass of
   LeaseHolder; waits for it. */
PyObject *
ipckit_channel_deliver(channel_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    ring_call call;
    native_state *state = ipckit_channel_state(self);
    if (state == NULL || ipckit_check_nargs("_deliver", nargs, 2) < 0
        || ipckit_holder_type_arg(args[0], state) < 0
        || ipckit_call_init(self, &call, POLL_ITEMS, op_deliver, args[1], "take") < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_joined(self, "take");
    if (core == NULL) {
        return NULL;
    }
    ring_add_role(&core->r, ROLE_RECEIVER);
    long forks = ipckit_core_acquire(core);
    return_messages_of_dead_peers(&core->r);
    ring_result result = ipckit_call(core, &call);
    if (result == RING_TIMEOUT && call.items) {
        result = RING_FULL; /* for the exception: no message was missing */
    }
    PyObject *holder = NULL;
    if (result == RING_OK) {
        const ring_message *message = &call.message;
        lease_object *lease = ipckit_lease_new(state, core, BLOCK_TAKEN, message->block, NULL,
                                               message->length);
        holder = ipckit_holder_new(args[0], self, lease);
    }
    ipckit_update_items_fd(core, result);
    if (result != RING_OK) {
        ipckit_ring_error(self, result, "take", args[1]);
    }
    ipckit_core_release(core, forks);
    return holder;
}

/* _acknowledge(): acknowledges the message of a holder that _deliver returned, and drops the lease. If an
   array of the message exists, the block stays until the last one is gone. Returns False if the message
   is not this process's to acknowledge. */
PyObject *
ipckit_holder_acknowledge(holder_object *self, PyObject *Py_UNUSED(ignored))
{
    lease_object *lease = self->lease;
    if (lease == NULL || lease->kind != BLOCK_TAKEN || lease->core == NULL
        || lease->forks != lease->core->forks) {
        Py_RETURN_FALSE;
    }
    ring *r = &lease->core->r;
    bool good = ring_acknowledge(r, lease->block, lease->owner) == RING_OK;
    lease->kind = BLOCK_READ;
    Py_CLEAR(self->lease);
    return PyBool_FromLong(good);
}

/* Returns what is known of the message that a holder has taken, or NULL if it has not. */
static const channel_delivery *
delivery_of(const holder_object *self)
{
    const lease_object *lease = self->lease;
    if (lease == NULL || lease->kind != BLOCK_TAKEN || lease->core == NULL
        || lease->forks != lease->core->forks) {
        return NULL;
    }
    return &lease->core->r.deliveries[lease->block];
}

PyObject *
ipckit_holder_redelivered(holder_object *self, void *Py_UNUSED(closure))
{
    const channel_delivery *delivery = delivery_of(self);
    if (delivery == NULL) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLongLong(load_acquire(&delivery->redelivered));
}

PyObject *
ipckit_holder_number(holder_object *self, void *Py_UNUSED(closure))
{
    const channel_delivery *delivery = delivery_of(self);
    if (delivery == NULL) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLongLong(load_acquire(&delivery->number));
}
