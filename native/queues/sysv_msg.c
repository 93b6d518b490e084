/* System V message queues: msgsnd and msgrcv, with a deadline. */
#include "native.h"
#include "ring/clock.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MSG_STAT_ANY
#define MSG_STAT_ANY 13
#endif
#ifndef MSG_COPY
#define MSG_COPY 040000
#endif

/* Messages up to the kernel's default msgmax are staged on the stack. */
#define STAGE_BYTES 8192

typedef struct {
    long type;
    char text[STAGE_BYTES];
} staged_message;

/* One msgsnd or msgrcv; `text_size` is the message's size or the buffer's. */
typedef struct {
    int id;
    void *message; /* a long, then text_size bytes */
    size_t text_size;
    long select; /* msgrcv only */
    int flags;
    bool receive;
} queue_call;

/* Waiting without a deadline sleeps in the kernel; with one it looks again after these pauses.
   A virtual machine charges up to 40 us for each waking, so that a pause of 1 ms kept up for long
   would cost 4 % of a core. */
#define FIRST_PAUSE_NS (20 * NS_PER_MS / 1000)
#define SHORT_WAIT_NS (50 * NS_PER_MS)
#define LONGEST_PAUSE_IN_SHORT_WAIT_NS NS_PER_MS
#define LONGEST_PAUSE_NS (3 * NS_PER_MS)
/* So many pauses, then a look at signals: one may have come while the thread was not asleep. */
#define PAUSES_BETWEEN_SIGNAL_CHECKS 20

/* "ipck", read as a number. */
#define WAIT_MARK 0x6b637069UL

typedef struct {
    int64_t began;
    int64_t deadline;
    int64_t pause;
} timed_wait;

#define INTERRUPTED_BY_PYTHON (-2)

static ssize_t
attempt(const queue_call *call, int extra_flags)
{
    int flags = call->flags | extra_flags;
    if (call->receive) {
        return msgrcv(call->id, call->message, call->text_size, call->select, flags);
    }
    return msgsnd(call->id, call->message, call->text_size, flags);
}

static bool
would_block(const queue_call *call, ssize_t result)
{
    return result < 0 && errno == (call->receive ? ENOMSG : EAGAIN);
}

/* Sleeps, with two arguments more than the kernel looks at: /proc/PID/syscall shows them, so that
   who waits for which queue can be seen here as it can in msgrcv itself. */
static long
pause_for(const queue_call *call, const struct timespec *nap)
{
    unsigned long which = (unsigned long)call->receive << 31 | (unsigned int)call->id;
    return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0L, nap, NULL, WAIT_MARK, which);
}

/* Tries again and again, further and further apart, until it is done, the deadline has passed
   (ETIMEDOUT), a signal came (EINTR), or it is time to look for one (EINTR as well). */
static ssize_t
attempt_with_pauses(const queue_call *call, timed_wait *wait)
{
    for (int round = 0; round < PAUSES_BETWEEN_SIGNAL_CHECKS; round++) {
        int64_t now = monotonic_ns();
        int64_t left = wait->deadline - now;
        if (left <= 0) {
            errno = ETIMEDOUT;
            return -1;
        }
        int64_t longest = now - wait->began < SHORT_WAIT_NS ? LONGEST_PAUSE_IN_SHORT_WAIT_NS
                                                            : LONGEST_PAUSE_NS;
        wait->pause = wait->pause < longest ? wait->pause : longest;
        struct timespec nap = timespec_of(wait->pause < left ? wait->pause : left);
        if (pause_for(call, &nap) < 0 && errno == EINTR) {
            break;
        }
        ssize_t result = attempt(call, IPC_NOWAIT);
        if (!would_block(call, result)) {
            return result;
        }
        wait->pause *= 2;
    }
    errno = EINTR;
    return -1;
}

/* Called where an attempt without waiting has failed; drops the GIL while it waits. */
static ssize_t
wait_for(const queue_call *call, int64_t wait_ns)
{
    timed_wait wait = {
        .began = monotonic_ns(), .deadline = deadline_after(wait_ns), .pause = FIRST_PAUSE_NS};
    for (;;) {
        ssize_t result;
        int error;
        Py_BEGIN_ALLOW_THREADS
        if (wait_ns == WAIT_FOREVER) {
            result = attempt(call, 0);
        } else {
            result = attempt_with_pauses(call, &wait);
        }
        error = errno;
        Py_END_ALLOW_THREADS
        errno = error;
        if (result >= 0 || error != EINTR) {
            return result;
        }
        if (PyErr_CheckSignals() < 0) {
            return INTERRUPTED_BY_PYTHON;
        }
    }
}

/* What the kernel knows of a queue, whether or not the caller may read from it. */
static bool
queue_status(int id, struct msqid_ds *ds)
{
    /* An id is a slot's index and a sequence number: 15 bits of index, 24 with ipcmni_extend. */
    static const int index_masks[] = {0x7fff, 0xffffff};
    if (msgctl(id, IPC_STAT, ds) == 0) {
        return true;
    }
    for (size_t i = 0; errno == EACCES && i < sizeof index_masks / sizeof index_masks[0]; i++) {
        if (msgctl(id & index_masks[i], MSG_STAT_ANY, ds) == id) {
            return true;
        }
        errno = EACCES;
    }
    return false;
}

/* Whether a message is longer than the queue will ever hold, so that waiting would be for ever. */
static bool
never_fits(const queue_call *call)
{
    struct msqid_ds ds;
    return !call->receive && queue_status(call->id, &ds) && call->text_size > ds.msg_qbytes;
}

/* The call at once if that can be, else as long as it may take. Result as msgsnd and msgrcv give
   it, or INTERRUPTED_BY_PYTHON with an exception set. */
static ssize_t
perform(const queue_call *call, int64_t wait_ns)
{
    ssize_t result;
    if (call->text_size > GIL_FREE_BYTES && !call->receive) {
        int error;
        Py_BEGIN_ALLOW_THREADS
        result = attempt(call, IPC_NOWAIT);
        error = errno;
        Py_END_ALLOW_THREADS
        errno = error;
    } else {
        result = attempt(call, IPC_NOWAIT);
    }
    int error = errno;
    if (would_block(call, result) && never_fits(call)) {
        errno = EMSGSIZE;
        return -1;
    }
    errno = error;
    bool again = would_block(call, result) || (result < 0 && errno == EINTR);
    if (!again || wait_ns == 0 || (call->flags & MSG_COPY)) {
        return result;
    }
    return wait_for(call, wait_ns);
}

static long
current_msgmax(void)
{
    struct msginfo info;
    if (msgctl(0, IPC_INFO, (struct msqid_ds *)&info) < 0) {
        return INT_MAX;
    }
    return info.msgmax;
}

/* A message no longer than msgmax, staged: in `stage` where it fits, else in new memory. */
static void *
stage_outgoing(staged_message *stage, long mtype, const Py_buffer *data)
{
    size_t size = (size_t)data->len;
    staged_message *message = stage;
    if (size > STAGE_BYTES) {
        if (size > (size_t)current_msgmax()) {
            errno = EMSGSIZE;
            return ipckit_call_failed();
        }
        message = PyMem_Malloc(sizeof(long) + size);
        if (message == NULL) {
            return PyErr_NoMemory();
        }
    }
    message->type = mtype;
    memcpy(message->text, data->buf, size);
    return message;
}

PyDoc_STRVAR(msgsnd_doc,
             "msgsnd(id, mtype, data, timeout, /)\n--\n\n"
             "msgsnd(2), waiting up to `timeout` seconds (None: for ever). OSError: ETIMEDOUT at\n"
             "the deadline, EMSGSIZE above kernel.msgmax, else as the kernel gives it.");

static PyObject *
native_msgsnd(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    queue_call call = {.receive = false};
    long mtype;
    int64_t wait_ns;
    Py_buffer data;
    if (ipckit_check_nargs("msgsnd", nargs, 4) < 0 || ipckit_int_arg(args[0], "id", &call.id) < 0
        || ipckit_long_arg(args[1], "mtype", 1, LONG_MAX, &mtype) < 0
        || ipckit_wait_arg(args[3], &wait_ns) < 0
        || ipckit_bytes_arg(args[2], &data) < 0) {
        return NULL;
    }
    staged_message stage;
    call.message = stage_outgoing(&stage, mtype, &data);
    call.text_size = (size_t)data.len;
    PyBuffer_Release(&data);
    if (call.message == NULL) {
        return NULL;
    }
    ssize_t result = perform(&call, wait_ns);
    int error = errno;
    if (call.message != &stage) {
        PyMem_Free(call.message);
    }
    if (result == 0) {
        Py_RETURN_NONE;
    }
    if (result == INTERRUPTED_BY_PYTHON) {
        return NULL;
    }
    errno = error == EINVAL && call.text_size > (size_t)current_msgmax() ? EMSGSIZE : error;
    return ipckit_call_failed();
}

PyDoc_STRVAR(msgrcv_doc,
             "msgrcv(id, select, flags, size, timeout, record_type, /)\n--\n\n"
             "msgrcv(2) of up to `size` bytes, waiting up to `timeout` seconds (None: for ever),\n"
             "as a Message. Its value is a `record_type` where the size is that type's, else bytes.\n"
             "OSError: ETIMEDOUT at the deadline, else as the kernel gives it.");

static PyObject *
native_msgrcv(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    queue_call call = {.receive = true};
    Py_ssize_t size;
    int64_t wait_ns;
    PyObject *record_type;
    if (ipckit_check_nargs("msgrcv", nargs, 6) < 0 || ipckit_int_arg(args[0], "id", &call.id) < 0
        || ipckit_long_arg(args[1], "select", LONG_MIN, LONG_MAX, &call.select) < 0
        || ipckit_int_arg(args[2], "flags", &call.flags) < 0
        || ipckit_size_arg(args[3], "size", &size) < 0
        || ipckit_wait_arg(args[4], &wait_ns) < 0
        || ipckit_record_type_arg(args[5], &record_type) < 0) {
        return NULL;
    }
    staged_message stage, *message = &stage;
    if (size > STAGE_BYTES) {
        message = size > PY_SSIZE_T_MAX - 64 ? NULL : PyMem_Malloc(sizeof(long) + (size_t)size);
        if (message == NULL) {
            return PyErr_NoMemory();
        }
    }
    call.message = message;
    call.text_size = (size_t)size;
    ssize_t got = perform(&call, wait_ns);
    PyObject *result = NULL;
    if (got >= 0) {
        PyObject *value = ipckit_payload_new(record_type, message->text, got);
        if (value != NULL) {
            result = ipckit_message_new(module, value, message->type, 0, false);
            Py_DECREF(value);
        }
    } else if (got != INTERRUPTED_BY_PYTHON) {
        ipckit_call_failed();
    }
    if (message != &stage) {
        PyMem_Free(message);
    }
    return result;
}

static PyMethodDef functions[] = {
    {"msgsnd", (PyCFunction)(void (*)(void))native_msgsnd, METH_FASTCALL, msgsnd_doc},
    {"msgrcv", (PyCFunction)(void (*)(void))native_msgrcv, METH_FASTCALL, msgrcv_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_sysv_msg(PyObject *module)
{
    if (PyModule_AddIntMacro(module, MSG_NOERROR) < 0 || PyModule_AddIntMacro(module, MSG_EXCEPT) < 0
        || PyModule_AddIntMacro(module, MSG_COPY) < 0
        || PyModule_AddIntMacro(module, IPC_NOWAIT) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
