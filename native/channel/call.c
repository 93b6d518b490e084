/* Running operations on a channel that may wait, and raising exceptions for their results. */
#include "channel/channel.h"

PyObject *
ipckit_ring_error(channel_object *self, ring_result result, const char *op, PyObject *timeout)
{
    if (result == RING_INTERRUPTED) {
        return NULL; /* the exception of a signal handler is set */
    }
    PyObject *exception = PyObject_CallMethod((PyObject *)self, "_explain_ring", "isO", (int)result,
                                              op, timeout == NULL ? Py_None : timeout);
    return ipckit_raise(exception);
}

PyObject *
ipckit_channel_oserror(channel_object *self, const char *op)
{
    PyObject *exception =
        PyObject_CallMethod((PyObject *)self, "_explain_errno", "is", errno, op);
    return ipckit_raise(exception);
}

channel_core *
ipckit_channel_open(channel_object *self, const char *op)
{
    if (self->core == NULL) {
        ipckit_ring_error(self, RING_CLOSED, op, NULL);
    }
    return self->core;
}

channel_core *
ipckit_channel_joined(channel_object *self, const char *op)
{
    channel_core *core = ipckit_channel_open(self, op);
    if (core != NULL && !core->joined && ipckit_core_join(core, ipckit_own_token()) < 0) {
        ipckit_channel_oserror(self, op);
        return NULL;
    }
    return core;
}

channel_core *
ipckit_channel_unjoined(channel_object *self, const char *op)
{
    channel_core *core = ipckit_channel_open(self, op);
    if (core == NULL) {
        return NULL;
    }
    if (core->subscription && core->r.subscriber == NULL) {
        errno = EOWNERDEAD;
        ipckit_channel_oserror(self, op);
        return NULL;
    }
    if (ipckit_core_ensure_fd(core) < 0) {
        ipckit_channel_oserror(self, op);
        return NULL;
    }
    if (!ring_file_is_intact(&core->r)) {
        ipckit_ring_error(self, RING_CORRUPT, op, NULL);
        return NULL;
    }
    return core;
}

/* Replaces a ValueError for an invalid timeout by InvalidArgument. Keeps any other exception, such as
   TypeError. Returns -1. */
static int
bad_timeout(channel_object *self, const char *op, PyObject *timeout)
{
    if (PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        ipckit_ring_error(self, RING_OK, op, timeout);
    }
    return -1;
}

int
ipckit_timeout_arg(channel_object *self, const char *function, PyObject *const *args,
                   Py_ssize_t nargs, Py_ssize_t wanted, PyObject *kwnames, PyObject **timeout)
{
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_Size(kwnames);
    *timeout = Py_None;
    if (nargs != wanted || named > 1
        || (named == 1
            && PyUnicode_CompareWithASCIIString(PyTuple_GetItem(kwnames, 0), "timeout") != 0)) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes %zd positional argument%s and the keyword argument timeout", function,
                     wanted, wanted == 1 ? "" : "s");
        return -1;
    }
    int64_t wait_ns;
    if (named == 1) {
        *timeout = args[nargs];
        if (ipckit_wait_arg(*timeout, &wait_ns) < 0) {
            return bad_timeout(self, function, *timeout);
        }
    }
    return 0;
}

int
ipckit_call_init(channel_object *self, ring_call *call, uint32_t which, ring_operation operation,
                 PyObject *timeout, const char *op)
{
    int64_t wait_ns;
    if (ipckit_wait_arg(timeout, &wait_ns) < 0) {
        return bad_timeout(self, op, timeout);
    }
    *call = (ring_call){
        .operation = operation,
        .which = which,
        .lends = operation == ipckit_op_lend,
        .deadline = wait_ns == WAIT_FOREVER ? INT64_MAX : wait_ns == 0 ? 0 : deadline_after(wait_ns),
        .wait_for_peers = self->wait_for_peers,
        .closed = &self->closed,
        .spin = &self->spin,
        .spin_max = self->spin_max,
    };
    return 0;
}

/* Tries the operation once with the GIL held, without waiting for the lock. Wakes the other side if it
   succeeds. Returns as the operation, or RING_BUSY if another peer has the lock. */
static ring_result
try_with_gil(ring *r, ring_call *call)
{
    channel_lock *lock = ring_call_lock(r, call);
    if (!ring_try_lock(r, lock)) {
        return RING_BUSY;
    }
    ring_result result = call->operation(r, call);
    ring_unlock(r, lock);
    return ring_notify_other_side(r, call, result);
}

/* Joins again if this process is a forked child. A signal handler may fork during a call, and then the
   child continues the call as another peer. The caller's acquire counts in the parent only, so the child
   acquires the core and sets `*forks`, which is -1 before, for ipckit_core_release. Returns RING_OK,
   RING_CLOSED, or RING_NO_PLACE. The load of `closed` pairs with the store in release_channel. */
static ring_result
rejoin_after_fork(channel_core *core, const ring_call *call, long *forks)
{
    if (core->joined) {
        return RING_OK;
    }
    if (__atomic_load_n(call->closed, __ATOMIC_ACQUIRE) || core->subscription) {
        return RING_CLOSED;
    }
    if (ipckit_core_join(core, ipckit_own_token()) < 0) {
        return RING_NO_PLACE;
    }
    if (*forks >= 0) {
        ipckit_core_release(core, *forks);
    }
    *forks = ipckit_core_acquire(core);
    ring_add_role(&core->r, call->which == POLL_ITEMS ? ROLE_RECEIVER : ROLE_SENDER);
    return RING_OK;
}

/* Notes in this peer's place what a call waits for, for people (ring/look.h). `noted` is 0 before. */
static void
note_wait(const ring *r, const ring_call *call, uint32_t *noted)
{
    if (*noted == 0) {
        *noted = call->which | (uint32_t)(monotonic_ns() / (1000 * NS_PER_MS)) << WAITS_BITS;
        store_relaxed(&r->peers[r->index].waits, *noted);
    }
}

/* Removes the note of note_wait, unless another thread has written its own. */
static void
forget_wait(const ring *r, uint32_t noted)
{
    if (noted != 0) {
        compare_exchange(&r->peers[r->index].waits, &noted, 0, RELAXED, RELAXED);
    }
}

/* Runs the operation without the GIL until it ends. Takes the GIL now and then to run signal handlers,
   which may raise or fork. Returns as ipckit_call; `forks` is as for rejoin_after_fork. */
static ring_result
run_with_signals(channel_core *core, ring_call *call, long *forks)
{
    uint32_t noted = 0;
    ring_result result;
    do {
        Py_BEGIN_ALLOW_THREADS
        result = ring_run(&core->r, call);
        Py_END_ALLOW_THREADS
        if (result != RING_INTERRUPTED) {
            break;
        }
        note_wait(&core->r, call, &noted); /* it has slept for PEER_CHECK_NS */
        if (PyErr_CheckSignals() < 0) {
            break;
        }
        result = rejoin_after_fork(core, call, forks);
    } while (result == RING_OK);
    if (core->joined) {
        forget_wait(&core->r, noted);
    }
    return result;
}

ring_result
ipckit_call(channel_core *core, ring_call *call)
{
    ring *r = &core->r;
    long forks = -1;
    ring_result result = rejoin_after_fork(core, call, &forks);
    if (result == RING_OK) {
        result = try_with_gil(r, call);
        if (result == RING_EMPTY && call->deadline != 0 && *call->spin != 0
            && ring_spin(r, call->which, ring_empty_snapshot(r), QUICK_POLLS)) {
            result = try_with_gil(r, call);
        }
    }
    if (result == RING_BUSY || result == RING_EMPTY || result == RING_FULL
        || result == RING_OVERTAKEN) {
        result = run_with_signals(core, call, &forks);
    }
    if (forks >= 0) {
        ipckit_core_release(core, forks);
    }
    return result;
}

ring_result
ipckit_call_uninterrupted(channel_core *core, ring_call *call)
{
    ring_result result = RING_BUSY;
    Py_BEGIN_ALLOW_THREADS
    do {
        result = ring_run(&core->r, call);
    } while (result == RING_INTERRUPTED);
    Py_END_ALLOW_THREADS
    return result;
}

ring_result
ipckit_op_send(ring *r, ring_call *call)
{
    return either_send(r, call->data, call->length);
}

ring_result
ipckit_op_lend(ring *r, ring_call *call)
{
    return either_lend(r, call->length, &call->block);
}

ring_result
ipckit_op_send_block(ring *r, ring_call *call)
{
    if ((uint32_t)call->items != r->owner) {
        return RING_CLOSED; /* a signal handler forked, and the parent has the loan */
    }
    return either_send_block(r, call->block, call->length, (uint32_t)call->items);
}

ring_result
ipckit_op_view(ring *r, ring_call *call)
{
    ring_result result = either_peek(r, &call->message);
    return result == RING_OK ? ipckit_take_found(r, call) : result;
}

ring_result
ipckit_take_found(ring *r, ring_call *call)
{
    const ring_message *message = &call->message;
    if (message->block == NO_BLOCK) {
        either_copy(r, (char *)call->data, message->data, message->length);
        call->items = 0;
        return either_take(r, message, 1);
    }
    call->items = r->owner;
    return either_begin_read(r, message);
}

void
ipckit_update_items_fd(channel_core *core, ring_result result)
{
    ring_descriptors *descriptors = core->descriptors;
    if (descriptors == NULL || descriptors->fd[POLL_ITEMS - 1] < 0) {
        return;
    }
    if (result == RING_BUSY) {
        descriptor_update_busy(descriptors, POLL_ITEMS, either_receive_lock(&core->r));
    } else {
        descriptor_update_items(descriptors);
    }
}

void
ipckit_update_space_fd(channel_core *core, const ring_call *call, ring_result result,
                       ring_snapshot before)
{
    ring_descriptors *descriptors = core->descriptors;
    if (descriptors == NULL || descriptors->fd[POLL_SPACE - 1] < 0) {
        return;
    }
    if (result != RING_FULL && result != RING_TIMEOUT && result != RING_BUSY
        && result != RING_GONE) {
        return; /* the call did not find the channel full */
    }
    if (result == RING_BUSY) {
        descriptor_update_busy(descriptors, POLL_SPACE, call->busy);
    } else {
        descriptor_update_space(descriptors, before);
    }
}
