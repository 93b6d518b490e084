/* The fast path of a receive: takes a small message that waits or comes soon, without releasing the
   GIL. */
#include "channel/channel.h"

#define SMALL_RECORD 1024 /* bytes of a Struct that is copied to the stack first */

/* Holds the block of a message that ring_peek found; the caller copies the message. Creates the object
   for it first. Returns as take_peeked. */
static ring_result
hold_peeked(channel_object *self, ring *r, const ring_message *message, receive_target *to)
{
    bool fits = to->buffer != NULL ? message->length <= to->size : self->record_type == NULL;
    if (message->length > GIL_FREE_BYTES || !fits) {
        return RING_BUSY;
    }
    if (to->buffer == NULL) {
        to->value = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)message->length);
        if (to->value == NULL) {
            return RING_INTERRUPTED;
        }
    }
    ring_result result = either_begin_read(r, message);
    if (result != RING_OK) {
        Py_CLEAR(to->value);
    }
    return result;
}

/* Takes a message that ring_peek found, if it is small. The caller holds receive_lock and the GIL.
   Returns RING_OK, RING_BUSY if the slow path must take it, RING_INTERRUPTED with an exception set,
   RING_OVERTAKEN or RING_CORRUPT. The bytes of a Struct go to `record`: no object that the garbage collector tracks may be
   created under the lock, because a collection may run any Python code, which may receive too. */
static ring_result
take_peeked(channel_object *self, ring *r, const ring_message *message, receive_target *to, char *record)
{
    uint64_t most = to->buffer != NULL          ? to->size
        : self->record_type != NULL ? SMALL_RECORD
                                    : INLINE_MAX;
    to->length = message->length;
    if (message->block != NO_BLOCK) {
        return hold_peeked(self, r, message, to);
    }
    if (message->length > most) {
        return RING_BUSY;
    }
    if (!ring_is_topic(r)) {
        ring_prefetch_next(r, message);
    }
    if (to->buffer != NULL || self->record_type != NULL) {
        either_copy(r, to->buffer != NULL ? to->buffer : record, message->data, message->length);
    } else {
        to->value = PyBytes_FromStringAndSize(message->data, (Py_ssize_t)message->length);
        if (to->value == NULL) {
            return RING_INTERRUPTED;
        }
    }
    ring_result result = either_take(r, message, 1);
    if (result != RING_OK) {
        Py_CLEAR(to->value);
    }
    return result;
}

/* Takes the next message if it waits and is small. Tries to take the lock, but does not sleep. The
   caller holds the GIL. Returns as take_peeked, or RING_EMPTY, or RING_CORRUPT. */
static ring_result
receive_once(channel_object *self, ring *r, receive_target *to)
{
    char record[SMALL_RECORD], copy[SMALL_MAX];
    ring_message message = {.block = NO_BLOCK}; /* gcc 13 does not see that RING_OK means it is set */
    channel_lock *lock = either_receive_lock(r);
    if (!ring_try_lock(r, lock)) {
        return RING_BUSY;
    }
    ring_result result = either_peek_small(r, &message, copy) ? RING_OK : either_peek(r, &message);
    if (result == RING_OK) {
        result = take_peeked(self, r, &message, to, record);
    }
    ring_unlock(r, lock);
    if (result != RING_OK) {
        return result;
    }
    if (message.block != NO_BLOCK) {
        char *copied = to->buffer != NULL ? to->buffer : PyBytes_AsString(to->value);
        memcpy(copied, message.data, message.length);
        either_end_read(r, message.block, r->owner);
        ring_notify_space(r);
        return RING_OK;
    }
    ring_notify_space(r);
    if (to->buffer == NULL && self->record_type != NULL) {
        to->value = ipckit_payload_new(self->record_type, record, (Py_ssize_t)to->length);
        return to->value == NULL ? RING_INTERRUPTED : RING_OK;
    }
    return RING_OK;
}

/* Returns how many messages wait according to cached_tail, which receivers store. Reading `tail` would
   take its cache line from the senders. */
static uint64_t
known_to_wait(const ring *r)
{
    if (ring_is_topic(r)) {
        bool forked = r->subscriber == NULL; /* while an object was created */
        return forked ? 0 : load_acquire(&r->seen) - load_acquire(&r->subscriber->cursor);
    }
    return (count_of(load_acquire(&r->shared->cached_tail)) - count_of(load_acquire(&r->shared->head)))
        & COUNT_MASK;
}

/* Polls for a short time before the caller releases the GIL, and receives a message that comes. In a
   stream of messages, each poll takes a cache line from the senders. So the receiver backs off before it
   polls, and then finds several messages. The backoff grows while it finds more. A process that has sent
   since its last receive probably waits for one answer, which is not a stream, so it does not back off.
   The caller holds the GIL. Returns as receive_once. */
static ring_result
receive_after_spin(channel_object *self, ring *r, receive_target *to)
{
    ring_snapshot before = ring_empty_snapshot(r);
    uint32_t sends = load_relaxed(&ipckit_channel_sends);
    if (self->sends_seen != sends) {
        self->sends_seen = sends;
        self->backoff = 0;
        return ring_spin(r, POLL_ITEMS, before, QUICK_POLLS) ? receive_once(self, r, to)
                                                             : RING_EMPTY;
    }
    for (uint32_t pause = 0; pause < self->backoff; pause++) {
        cpu_relax();
    }
    bool stream = ring_spin(r, POLL_ITEMS, before, STREAM_POLLS);
    if (!stream && !ring_spin(r, POLL_ITEMS, before, QUICK_POLLS)) {
        self->backoff = 0;
        return RING_EMPTY;
    }
    ring_result result = receive_once(self, r, to);
    if (stream && known_to_wait(r) >= (self->backoff < 8 ? 0 : 1 + self->backoff / 16)) {
        self->backoff = self->backoff < RECEIVE_BACKOFF_MAX ? self->backoff + 1 : RECEIVE_BACKOFF_MAX;
    } else {
        self->backoff /= 2;
    }
    return result;
}

/* The caller has acquired the core, because creating the object and testing the truth of `timeout` may
   run any Python code, which may close the channel. */
ring_result
ipckit_receive_small(channel_object *self, channel_core *core, PyObject *timeout,
                     receive_target *to)
{
    ring *r = &core->r;
    ring_add_role(r, ROLE_RECEIVER);
    ring_result result = either_looks_empty(r) ? RING_EMPTY : receive_once(self, r, to);
    if (result == RING_EMPTY && self->spin != 0) {
        int waits = timeout == Py_None ? 1 : PyObject_IsTrue(timeout);
        if (waits < 0) {
            result = RING_INTERRUPTED;
        } else if (waits && core->joined) { /* not in a child that the test of the truth forked */
            result = receive_after_spin(self, r, to);
        }
    }
    if ((result == RING_OK || result == RING_INTERRUPTED) && core->descriptors != NULL) {
        ipckit_update_items_fd(core, RING_OK);
    }
    return result;
}
