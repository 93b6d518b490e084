/* POSIX message queues: sending and receiving on an open descriptor. */
#include "queues/posix_mq.h"
#include "ring/clock.h"

#include <errno.h>
#include <limits.h>
#include <mqueue.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* A message of up to this size is received on the stack and copied. */
#define STACK_BYTES 8192
#define PRIORITY_MAX 32767

/* The result of a call during which a signal's handler raised an exception, which is set. */
#define INTERRUPTED_BY_PYTHON (-2)

/* A signal may arrive just before the thread falls asleep, or in another thread. Neither wakes this
   thread, so a wait with a deadline checks for signals this often. */
#define LONGEST_SLEEP_NS (100 * NS_PER_MS)

/* After a receive that found the queue empty, this many receives sleep without a first attempt. An
   attempt costs as much as the call, and a switch of processes if both have one processor; but if
   it finds a message, the receive keeps the GIL and no other thread runs in between. */
#define RECEIVES_THAT_SLEEP_FIRST 100

/* One mq_send or mq_receive. */
typedef struct {
    mqd_t queue;
    queue_descriptor *descriptor; /* NULL if the caller keeps the queue open */
    char *text;
    size_t size;
    unsigned priority;
    bool receive;
} queue_call;

/* Makes the system call with a deadline on the clock CLOCK_REALTIME. Returns its result; errno is
   set after a failure. */
static ssize_t
attempt_until(queue_call *call, const struct timespec *realtime_deadline)
{
    if (call->receive) {
        return mq_timedreceive(call->queue, call->text, call->size, &call->priority,
                               realtime_deadline);
    }
    return mq_timedsend(call->queue, call->text, call->size, call->priority, realtime_deadline);
}

/* Makes the system call without waiting. Returns its result, or -1 with errno EAGAIN if it would
   have to wait. A deadline in the past serves instead of O_NONBLOCK: that flag belongs to the open
   file description, which forks and duplicates share, so ipckit must not set it. */
static ssize_t
attempt_now(queue_call *call)
{
    struct timespec past = {0, 0}; /* not static const: qemu-user writes to it, and would fail with EFAULT */
    ssize_t result = attempt_until(call, &past);
    if (result < 0 && (errno == ETIMEDOUT || errno == EINTR)) {
        errno = EAGAIN; /* the kernel was about to sleep */
    }
    return result;
}

/* Makes the system call, which sleeps without a deadline. A message for a receiver that sleeps here
   causes no notification of mq_notify, unlike one for a receiver that sleeps in ppoll. Returns as
   the call does. */
static ssize_t
attempt_asleep(queue_call *call)
{
    if (call->receive) {
        return mq_receive(call->queue, call->text, call->size, &call->priority);
    }
    return mq_send(call->queue, call->text, call->size, call->priority);
}

/* Sleeps until the descriptor is ready. Returns 0, or -1 with errno ETIMEDOUT at the deadline, or
   EINTR after a signal or when it is time to check for one. */
static int
poll_until(const queue_call *call, int64_t deadline)
{
    struct pollfd ready = {.fd = call->queue, .events = call->receive ? POLLIN : POLLOUT};
    int64_t remaining = deadline - monotonic_ns();
    remaining = remaining > 0 ? remaining : 0;
    bool last = remaining <= LONGEST_SLEEP_NS;
    struct timespec limit = timespec_of(last ? remaining : LONGEST_SLEEP_NS);
    int count = ppoll(&ready, 1, &limit, NULL);
    if (count == 0) {
        errno = last ? ETIMEDOUT : EINTR;
        return -1;
    }
    return count < 0 ? -1 : 0;
}

/* Waits once and tries once; called without the GIL. Returns the call's result, or -1 with errno
   EINTR or EAGAIN if the caller has to wait again, or ETIMEDOUT at the deadline. */
static ssize_t
wait_once(queue_call *call, int64_t deadline)
{
    if (deadline == INT64_MAX) {
        ssize_t result = attempt_asleep(call);
        if (result >= 0 || errno != EAGAIN) {
            return result;
        }
        /* Another program has set O_NONBLOCK. */
    }
    return poll_until(call, deadline) < 0 ? -1 : attempt_now(call);
}

/* Waits until the call is done; called with the GIL, which it releases while it waits. Returns the
   call's result with errno set, or INTERRUPTED_BY_PYTHON. */
static ssize_t
wait_for(queue_call *call, int64_t wait_ns)
{
    int64_t deadline = wait_ns == WAIT_FOREVER ? INT64_MAX : deadline_after(wait_ns);
    ssize_t result;
    int error;
    do {
        Py_BEGIN_ALLOW_THREADS
        result = wait_once(call, deadline);
        error = errno;
        Py_END_ALLOW_THREADS
        if (result < 0 && error == EINTR && PyErr_CheckSignals() < 0) {
            result = INTERRUPTED_BY_PYTHON;
        }
    } while (result == -1 && (error == EINTR || error == EAGAIN));
    errno = error;
    return result;
}

/* The first attempt of a call; called with the GIL, which it releases for a large message unless
   `wait_ns` is 0. Returns as `attempt_now`. */
static ssize_t
first_attempt(queue_call *call, int64_t wait_ns)
{
    if (wait_ns == 0 || call->size <= GIL_FREE_BYTES) {
        return attempt_now(call);
    }
    ssize_t result;
    int error;
    Py_BEGIN_ALLOW_THREADS
    result = attempt_now(call);
    error = errno;
    Py_END_ALLOW_THREADS
    errno = error;
    return result;
}

/* Whether a receive sleeps without a first attempt, because an earlier one found the queue empty.
   Counts the receive; called with the GIL. */
static bool
sleeps_first(const queue_call *call, int64_t wait_ns)
{
    queue_descriptor *descriptor = call->descriptor;
    if (!call->receive || wait_ns == 0 || descriptor == NULL || descriptor->sleep_first == 0) {
        return false;
    }
    descriptor->sleep_first--;
    return true;
}

/* Makes the call on a descriptor that stays open during it, and waits up to `wait_ns` if it has to;
   called with the GIL. Returns the call's result with errno set, or INTERRUPTED_BY_PYTHON. */
static ssize_t
perform_acquired(queue_call *call, int64_t wait_ns)
{
    if (sleeps_first(call, wait_ns)) {
        return wait_for(call, wait_ns);
    }
    ssize_t result = first_attempt(call, wait_ns);
    if (result >= 0 || errno != EAGAIN || wait_ns == 0) {
        return result;
    }
    if (call->descriptor != NULL) {
        call->descriptor->sleep_first = RECEIVES_THAT_SLEEP_FIRST;
    }
    return wait_for(call, wait_ns);
}

/* As `perform_acquired`, on a descriptor that another thread may close. */
static ssize_t
perform(queue_call *call, int64_t wait_ns)
{
    if (call->descriptor == NULL) {
        return perform_acquired(call, wait_ns);
    }
    call->queue = ipckit_queue_acquire(call->descriptor);
    ssize_t result = perform_acquired(call, wait_ns);
    int error = errno;
    ipckit_queue_release(call->descriptor);
    errno = error;
    return result;
}

PyDoc_STRVAR(mq_send_doc,
             "mq_send(fd, data, priority, timeout, /)\n--\n\n"
             "mq_send(3) on an int or a QueueDescriptor; waits up to `timeout` seconds, or for ever\n"
             "if it is None. CallFailed: EAGAIN if the queue is full and `timeout` is 0, ETIMEDOUT\n"
             "at the deadline, otherwise the kernel's errno.");

static PyObject *
native_mq_send(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    const native_state *state = PyModule_GetState(module);
    queue_call call = {.receive = false};
    int64_t wait_ns;
    long priority;
    Py_buffer data;
    if (ipckit_check_nargs("mq_send", nargs, 4) < 0
        || ipckit_queue_arg(state, args[0], &call.queue, &call.descriptor) < 0
        || ipckit_long_arg(args[2], "priority", 0, PRIORITY_MAX, &priority) < 0
        || ipckit_wait_arg(args[3], &wait_ns) < 0
        || ipckit_bytes_arg(args[1], &data) < 0) {
        return NULL;
    }
    call.text = data.buf;
    call.size = (size_t)data.len;
    call.priority = (unsigned)priority;
    ssize_t result = perform(&call, wait_ns);
    int error = errno;
    PyBuffer_Release(&data);
    if (result == 0) {
        Py_RETURN_NONE;
    }
    errno = error;
    return result == INTERRUPTED_BY_PYTHON ? NULL : ipckit_call_failed();
}

/* Points `call` to memory for `size` bytes: `stack`, or a new bytes object, which the caller owns.
   Returns 0, or -1 with MemoryError set; `whole` is the object or NULL.

   After a message that filled its buffer the next one is expected to do so too, and is received
   straight into its bytes object. For a short message, a copy is cheaper than a long object. */
static int
choose_buffer(queue_call *call, Py_ssize_t size, bool expect_full, char *stack, PyObject **whole)
{
    call->size = (size_t)size;
    call->text = stack;
    *whole = NULL;
    if (size > STACK_BYTES || expect_full) {
        *whole = PyBytes_FromStringAndSize(NULL, size);
        if (*whole == NULL) {
            return -1;
        }
        call->text = PyBytes_AsString(*whole);
    }
    return 0;
}

/* Returns the Message of `got` bytes at call->text, or NULL with an exception set; uses errno.
   `whole` is the bytes object around call->text, or NULL. */
static PyObject *
received(PyObject *module, const queue_call *call, PyObject *whole, PyObject *record_type,
         ssize_t got)
{
    if (got == INTERRUPTED_BY_PYTHON) {
        return NULL;
    }
    if (got < 0) {
        return ipckit_call_failed();
    }
    PyObject *value = NULL;
    if (record_type == NULL && whole != NULL && (size_t)got == call->size) {
        value = Py_NewRef(whole);
    } else {
        value = ipckit_payload_new(record_type, call->text, got);
    }
    if (value == NULL) {
        return NULL;
    }
    PyObject *result = ipckit_message_new(module, value, 0, (long)call->priority, false);
    Py_DECREF(value);
    return result;
}

PyDoc_STRVAR(mq_receive_doc,
             "mq_receive(fd, size, timeout, record_type, /)\n--\n\n"
             "mq_receive(3) on an int or a QueueDescriptor, as a Message. `size` is the queue's\n"
             "message size or more. Waits up to `timeout` seconds, or for ever if it is None. The\n"
             "value is a `record_type` if the message has that type's size, otherwise bytes.\n"
             "CallFailed: EAGAIN if the queue is empty and `timeout` is 0, ETIMEDOUT at the\n"
             "deadline, otherwise the kernel's errno.");

static PyObject *
native_mq_receive(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    native_state *state = PyModule_GetState(module);
    queue_call call = {.receive = true};
    Py_ssize_t size;
    int64_t wait_ns;
    PyObject *record_type, *whole;
    char stack[STACK_BYTES];
    if (ipckit_check_nargs("mq_receive", nargs, 4) < 0
        || ipckit_queue_arg(state, args[0], &call.queue, &call.descriptor) < 0
        || ipckit_size_arg(args[1], "size", &size) < 0
        || ipckit_wait_arg(args[2], &wait_ns) < 0
        || ipckit_record_type_arg(args[3], &record_type) < 0) {
        return NULL;
    }
    bool expect_full = record_type == NULL && state->last_mq_size > size / 2;
    if (choose_buffer(&call, size, expect_full, stack, &whole) < 0) {
        return NULL;
    }
    ssize_t got = perform(&call, wait_ns);
    if (got >= 0) {
        state->last_mq_size = got;
    }
    PyObject *result = received(module, &call, whole, record_type, got);
    Py_XDECREF(whole);
    return result;
}

static PyMethodDef functions[] = {
    {"mq_send", (PyCFunction)(void (*)(void))native_mq_send, METH_FASTCALL, mq_send_doc},
    {"mq_receive", (PyCFunction)(void (*)(void))native_mq_receive, METH_FASTCALL, mq_receive_doc},
    {NULL, NULL, 0, NULL},
};

/* Adds the functions of this file to the module: 0, or -1 with an exception set. */
int
ipckit_add_mq(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
