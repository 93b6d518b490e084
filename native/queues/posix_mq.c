/* POSIX message queues: sending and receiving on an open descriptor. */
#include "queues/posix_mq.h"
#include "ring/clock.h"

#include <errno.h>
#include <limits.h>
#include <mqueue.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define STAGE_BYTES 8192
#define PRIORITY_MAX 32767
#define INTERRUPTED_BY_PYTHON (-2)

/* A signal may come just before the thread falls asleep, or to another thread: nothing wakes this
   one then, so that it looks this often. */
#define LONGEST_SLEEP_NS (100 * NS_PER_MS)

/* After a receive that found nothing, so many go to sleep without looking first. To look costs as much as the call,
   and a switch of processes where both have one processor; but if something is there it is had without another
   thread's running meanwhile. */
#define STRAIGHT_RECEIVES 100

/* One mq_send or mq_receive. */
typedef struct {
    mqd_t queue;
    queue_descriptor *descriptor; /* NULL if the caller keeps the queue open */
    char *text;
    size_t size;
    unsigned priority;
    bool receive;
} queue_call;

static ssize_t
attempt_until(queue_call *call, const struct timespec *realtime_deadline)
{
    if (call->receive) {
        return mq_timedreceive(call->queue, call->text, call->size, &call->priority,
                               realtime_deadline);
    }
    return mq_timedsend(call->queue, call->text, call->size, call->priority, realtime_deadline);
}

/* A deadline in the past makes the call return at once whatever O_NONBLOCK says: that flag lives
   in the open file description, which forks and duplicates share, so it is not ours to set. */
static ssize_t
attempt_now(queue_call *call)
{
    static const struct timespec past = {0, 0};
    ssize_t result = attempt_until(call, &past);
    if (result < 0 && (errno == ETIMEDOUT || errno == EINTR)) {
        errno = EAGAIN; /* it got as far as going to sleep */
    }
    return result;
}

/* Waits in the kernel until the descriptor is ready, the deadline passes (ETIMEDOUT), a signal
   came (EINTR), or it is time to look for one (EINTR as well). */
static int
poll_until(const queue_call *call, int64_t deadline)
{
    struct pollfd ready = {.fd = call->queue, .events = call->receive ? POLLIN : POLLOUT};
    int64_t left = deadline - monotonic_ns();
    bool last = left <= LONGEST_SLEEP_NS;
    struct timespec limit = timespec_of(last ? (left > 0 ? left : 0) : LONGEST_SLEEP_NS);
    int count = ppoll(&ready, 1, &limit, NULL);
    if (count == 0) {
        errno = last ? ETIMEDOUT : EINTR;
        return -1;
    }
    return count < 0 ? -1 : 0;
}

/* Asleep in the call itself: a registered notification is for those who are not. */
static ssize_t
attempt_asleep(queue_call *call)
{
    if (call->receive) {
        return mq_receive(call->queue, call->text, call->size, &call->priority);
    }
    return mq_send(call->queue, call->text, call->size, call->priority);
}

static ssize_t
wait_once(queue_call *call, int64_t deadline)
{
    if (deadline == INT64_MAX) {
        ssize_t result = attempt_asleep(call);
        if (result >= 0 || errno != EAGAIN) {
            return result;
        }
    }
    return poll_until(call, deadline) < 0 ? -1 : attempt_now(call);
}

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

static ssize_t
look_first(queue_call *call, int64_t wait_ns)
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

/* Whether a receive goes to sleep at once, because the ones before it had to wait. */
static bool
goes_straight(const queue_call *call, int64_t wait_ns)
{
    queue_descriptor *descriptor = call->descriptor;
    if (!call->receive || wait_ns == 0 || descriptor == NULL || descriptor->straight == 0) {
        return false;
    }
    descriptor->straight--;
    return true;
}

static ssize_t
perform_kept(queue_call *call, int64_t wait_ns)
{
    if (goes_straight(call, wait_ns)) {
        return wait_for(call, wait_ns);
    }
    ssize_t result = look_first(call, wait_ns);
    if (result >= 0 || (errno != EAGAIN && errno != EINTR) || wait_ns == 0) {
        return result;
    }
    if (call->descriptor != NULL) {
        call->descriptor->straight = STRAIGHT_RECEIVES;
    }
    return wait_for(call, wait_ns);
}

static ssize_t
perform(queue_call *call, int64_t wait_ns)
{
    if (call->descriptor != NULL) {
        call->queue = ipckit_queue_keep(call->descriptor);
    }
    ssize_t result = perform_kept(call, wait_ns);
    if (call->descriptor != NULL) {
        int error = errno;
        ipckit_queue_let_go(call->descriptor);
        errno = error;
    }
    return result;
}

PyDoc_STRVAR(mq_send_doc,
             "mq_send(fd, data, priority, timeout, /)\n--\n\n"
             "mq_send(3) on an int or a QueueDescriptor, waiting up to `timeout` seconds (None: for\n"
             "ever). OSError: EAGAIN when full and `timeout` is 0, ETIMEDOUT at the deadline, else as\n"
             "the kernel gives it.");

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
    if (result == INTERRUPTED_BY_PYTHON) {
        return NULL;
    }
    if (result < 0) {
        errno = error;
        return ipckit_call_failed();
    }
    Py_RETURN_NONE;
}

/* The Message of `got` bytes at call->text, which is inside `whole` where there is one. */
static PyObject *
received(PyObject *module, const queue_call *call, PyObject *whole, PyObject *record_type,
         ssize_t got)
{
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
             "mq_receive(3) on an int or a QueueDescriptor, into `size` bytes, which is at least the\n"
             "queue's message size, waiting up to `timeout` seconds (None: for ever), as a Message. Its value is a `record_type`\n"
             "where the size is that type's, else bytes. OSError: EAGAIN when empty and `timeout`\n"
             "is 0, ETIMEDOUT at the deadline, else as the kernel gives it.");

static PyObject *
native_mq_receive(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    native_state *state = PyModule_GetState(module);
    queue_call call = {.receive = true};
    Py_ssize_t size;
    int64_t wait_ns;
    PyObject *record_type;
    if (ipckit_check_nargs("mq_receive", nargs, 4) < 0
        || ipckit_queue_arg(state, args[0], &call.queue, &call.descriptor) < 0
        || ipckit_size_arg(args[1], "size", &size) < 0
        || ipckit_wait_arg(args[2], &wait_ns) < 0
        || ipckit_record_type_arg(args[3], &record_type) < 0) {
        return NULL;
    }
    char stage[STAGE_BYTES];
    PyObject *whole = NULL;
    call.text = stage;
    call.size = (size_t)size;
    /* After a message that filled its buffer the next is taken to do so too, and written straight
       into its bytes object; a short one is cheaper to copy than a long object is to make. */
    if (size > STAGE_BYTES || (record_type == NULL && state->last_mq_size > size / 2)) {
        whole = PyBytes_FromStringAndSize(NULL, size);
        if (whole == NULL) {
            return NULL;
        }
        call.text = PyBytes_AsString(whole);
    }
    ssize_t got = perform(&call, wait_ns);
    PyObject *result = NULL;
    if (got >= 0) {
        state->last_mq_size = got;
        result = received(module, &call, whole, record_type, got);
    } else if (got != INTERRUPTED_BY_PYTHON) {
        ipckit_call_failed();
    }
    Py_XDECREF(whole);
    return result;
}

static PyMethodDef functions[] = {
    {"mq_send", (PyCFunction)(void (*)(void))native_mq_send, METH_FASTCALL, mq_send_doc},
    {"mq_receive", (PyCFunction)(void (*)(void))native_mq_receive, METH_FASTCALL, mq_receive_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_mq(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
