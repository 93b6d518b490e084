/* System V message queues: msgsnd and msgrcv, with a deadline. */
#include "native.h"
#include "queues/message_form.h"
#include "queues/sysv_msg.h"
#include "ring/clock.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A message of up to the kernel's default msgmax has its buffer on the stack. */
#define STACK_BYTES 8192

/* The result of a call during which a signal's handler raised an exception, which is set. */
#define INTERRUPTED_BY_PYTHON (-2)

/* A wait with a deadline polls, with these pauses in between. A virtual machine charges up to 40 us
   for each wake-up, so 1 ms pauses throughout a long wait would cost 4 % of a core. */
#define FIRST_PAUSE_NS (20 * NS_PER_MS / 1000)
#define SHORT_WAIT_NS (50 * NS_PER_MS)
#define LONGEST_PAUSE_IN_SHORT_WAIT_NS NS_PER_MS
#define LONGEST_PAUSE_NS (3 * NS_PER_MS)
/* Signals are checked after this many pauses: one may have arrived between two of them. */
#define PAUSES_BETWEEN_SIGNAL_CHECKS 20

/* Arguments of a pause's system call, which tell readers of /proc/PID/syscall, such as
   _core/blocked_calls.py, what it waits for:
   the mark ("ipck", read as a number), and the queue's id, with a bit set for a receive. */
#define WAIT_MARK 0x6b637069L
#define WAIT_RECEIVES (1L << 31)

/* A message as msgsnd and msgrcv take it; the text may be longer if it is on the heap. */
typedef struct {
    long type;
    char text[STACK_BYTES];
} message_buffer;

/* One msgsnd or msgrcv. */
typedef struct {
    int id;
    message_buffer *message;
    size_t size; /* bytes of text: the message's, or the most to receive */
    long select; /* msgrcv only */
    int flags;
    bool receive;
} queue_call;

/* A wait with a deadline; times are on the monotonic clock, in nanoseconds. */
typedef struct {
    int64_t began;
    int64_t deadline;
    int64_t pause; /* the next one's length */
} timed_wait;

/* Makes the system call once. Returns its result; errno is set after a failure. */
static ssize_t
attempt(const queue_call *call, int extra_flags)
{
    int flags = call->flags | extra_flags;
    if (call->receive) {
        return msgrcv(call->id, call->message, call->size, call->select, flags);
    }
    return msgsnd(call->id, call->message, call->size, flags);
}

/* Whether an attempt with IPC_NOWAIT failed because the queue is full or has no such message. */
static bool
would_block(const queue_call *call, ssize_t result)
{
    return result < 0 && errno == (call->receive ? ENOMSG : EAGAIN);
}

/* Sleeps for the next pause. clock_nanosleep ignores its last two arguments here, but
   /proc/PID/syscall shows them, so a waiting process is visible as it is in msgrcv itself.
   Returns 0, or -1 with errno set. */
static long
pause_for(const queue_call *call, const struct timespec *pause)
{
    long which = call->id | (call->receive ? WAIT_RECEIVES : 0); /* an id is 0 or more */
    return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0L, pause, NULL, WAIT_MARK, which);
}

/* The length of the next pause of a wait: grows with the wait, and ends at the deadline. */
static struct timespec
next_pause(timed_wait *wait, int64_t now)
{
    bool is_short = now - wait->began < SHORT_WAIT_NS;
    int64_t longest = is_short ? LONGEST_PAUSE_IN_SHORT_WAIT_NS : LONGEST_PAUSE_NS;
    int64_t remaining = wait->deadline - now;
    wait->pause = wait->pause < longest ? wait->pause : longest;
    return timespec_of(wait->pause < remaining ? wait->pause : remaining);
}

/* Polls the queue; called without the GIL. Returns the call's result, or -1 with errno ETIMEDOUT
   at the deadline, or EINTR after a signal or when it is time to check for one. */
static ssize_t
poll_queue(const queue_call *call, timed_wait *wait)
{
    for (int round = 0; round < PAUSES_BETWEEN_SIGNAL_CHECKS; round++) {
        int64_t now = monotonic_ns();
        if (now >= wait->deadline) {
            errno = ETIMEDOUT;
            return -1;
        }
        struct timespec pause = next_pause(wait, now);
        if (pause_for(call, &pause) < 0 && errno == EINTR) {
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

/* Waits until the call is done; called with the GIL, which it releases while it waits. Returns the
   call's result with errno set, or INTERRUPTED_BY_PYTHON. */
static ssize_t
wait_for(const queue_call *call, int64_t wait_ns)
{
    timed_wait wait = {
        .began = monotonic_ns(), .deadline = deadline_after(wait_ns), .pause = FIRST_PAUSE_NS};
    for (;;) {
        ssize_t result;
        int error;
        Py_BEGIN_ALLOW_THREADS
        result = wait_ns == WAIT_FOREVER ? attempt(call, 0) : poll_queue(call, &wait);
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

/* Fills `ds` with a queue's status, even if the caller may not read from the queue. Returns whether
   it succeeded; changes errno. */
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

/* Whether a message exceeds the queue's capacity, so that a send would wait for ever. */
static bool
never_fits(const queue_call *call)
{
    struct msqid_ds ds;
    return !call->receive && queue_status(call->id, &ds) && call->size > ds.msg_qbytes;
}

/* Makes the call once without waiting; called with the GIL, which it releases only to send a large
   message. Returns the call's result with errno set: EMSGSIZE for a message that never fits. */
static ssize_t
attempt_now(const queue_call *call)
{
    ssize_t result;
    int error;
    if (!call->receive && call->size > GIL_FREE_BYTES) {
        Py_BEGIN_ALLOW_THREADS
        result = attempt(call, IPC_NOWAIT);
        error = errno;
        Py_END_ALLOW_THREADS
        errno = error;
    } else {
        result = attempt(call, IPC_NOWAIT);
        error = errno;
    }
    if (would_block(call, result)) {
        errno = never_fits(call) ? EMSGSIZE : error;
    }
    return result;
}

/* Makes the call, and waits up to `wait_ns` if it has to; called with the GIL. Returns the call's
   result with errno set, or INTERRUPTED_BY_PYTHON. */
static ssize_t
perform(const queue_call *call, int64_t wait_ns)
{
    ssize_t result = attempt_now(call);
    bool again = would_block(call, result) || (result < 0 && errno == EINTR);
    if (!again || wait_ns == 0 || (call->flags & MSG_COPY)) {
        return result;
    }
    return wait_for(call, wait_ns);
}

/* Returns `stack` if a message of `size` bytes fits, otherwise memory for `free_buffer`; NULL with
   MemoryError set. */
static message_buffer *
new_buffer(message_buffer *stack, size_t size)
{
    if (size <= STACK_BYTES) {
        return stack;
    }
    message_buffer *buffer = NULL;
    if (size <= PY_SSIZE_T_MAX - sizeof(long)) {
        buffer = PyMem_Malloc(sizeof(long) + size);
    }
    return buffer != NULL ? buffer : (message_buffer *)PyErr_NoMemory();
}

/* Frees what `new_buffer` returned; keeps errno. */
static void
free_buffer(message_buffer *buffer, const message_buffer *stack)
{
    if (buffer != stack) {
        int error = errno;
        PyMem_Free(buffer);
        errno = error;
    }
}

/* Whether `size` exceeds kernel.msgmax. */
static bool
exceeds_msgmax(size_t size)
{
    struct msginfo info;
    return msgctl(0, IPC_INFO, (struct msqid_ds *)&info) >= 0 && size > (size_t)info.msgmax;
}

/* Copies a message into a buffer. Returns `stack` or new memory; NULL with an exception set, which
   is EMSGSIZE before the copy of a large message that exceeds msgmax. */
static message_buffer *
copy_message(message_buffer *stack, long mtype, const char *text, size_t size)
{
    if (size > STACK_BYTES && exceeds_msgmax(size)) {
        errno = EMSGSIZE;
        ipckit_call_failed();
        return NULL;
    }
    message_buffer *message = new_buffer(stack, size);
    if (message != NULL) {
        message->type = mtype;
        memcpy(message->text, text, size);
    }
    return message;
}

/* Returns None for a message that was sent, otherwise NULL with an exception set; uses errno. */
static PyObject *
send_result(const queue_call *call, ssize_t result)
{
    if (result == 0) {
        Py_RETURN_NONE;
    }
    if (result == INTERRUPTED_BY_PYTHON) {
        return NULL;
    }
    int error = errno;
    errno = error == EINVAL && exceeds_msgmax(call->size) ? EMSGSIZE : error;
    return ipckit_call_failed();
}

PyDoc_STRVAR(msgsnd_doc,
             "msgsnd(id, mtype, data, timeout, /)\n--\n\n"
             "msgsnd(2); waits up to `timeout` seconds, or for ever if it is None. If `mtype` is\n"
             "None, the data begins with it, and the text is the rest. CallFailed:\n"
             "ETIMEDOUT at the deadline, EMSGSIZE above kernel.msgmax or the queue's capacity,\n"
             "otherwise the kernel's errno.");

static PyObject *
native_msgsnd(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    queue_call call = {.receive = false};
    bool typed = nargs == 4 && args[1] == Py_None;
    long mtype;
    int64_t wait_ns;
    Py_buffer data;
    if (ipckit_check_nargs("msgsnd", nargs, 4) < 0 || ipckit_int_arg(args[0], "id", &call.id) < 0
        || (!typed && ipckit_long_arg(args[1], "mtype", 1, LONG_MAX, &mtype) < 0)
        || ipckit_wait_arg(args[3], &wait_ns) < 0
        || ipckit_bytes_arg(args[2], &data) < 0) {
        return NULL;
    }
    if (typed && ipckit_own_mtype(args[2], &data, &mtype) < 0) {
        PyBuffer_Release(&data);
        return NULL;
    }
    size_t head = typed ? sizeof mtype : 0;
    message_buffer stack;
    call.size = (size_t)data.len - head;
    call.message = copy_message(&stack, mtype, (const char *)data.buf + head, call.size);
    PyBuffer_Release(&data);
    if (call.message == NULL) {
        return NULL;
    }
    ssize_t result = perform(&call, wait_ns);
    free_buffer(call.message, &stack);
    return send_result(&call, result);
}

/* Returns the Message of `got` bytes, otherwise NULL with an exception set; uses errno. */
static PyObject *
received(PyObject *module, const queue_call *call, const MessageForm *form, ssize_t got)
{
    if (got == INTERRUPTED_BY_PYTHON) {
        return NULL;
    }
    if (got < 0) {
        return ipckit_call_failed();
    }
    PyObject *value = ipckit_message_value(form, call->message->type, call->message->text, got);
    if (value == NULL) {
        return NULL;
    }
    PyObject *result = ipckit_message_new(module, value, call->message->type, 0, false);
    Py_DECREF(value);
    return result;
}

PyDoc_STRVAR(msgrcv_doc,
             "msgrcv(id, select, flags, size, timeout, form, /)\n--\n\n"
             "msgrcv(2) of up to `size` bytes, as a Message; waits up to `timeout` seconds, or for\n"
             "ever if it is None. The value is an instance of the form's class if the text fits it,\n"
             "otherwise bytes. CallFailed: ETIMEDOUT at the deadline, otherwise the kernel's errno.");

static PyObject *
native_msgrcv(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    queue_call call = {.receive = true};
    Py_ssize_t size;
    int64_t wait_ns;
    MessageForm *form;
    if (ipckit_check_nargs("msgrcv", nargs, 6) < 0 || ipckit_int_arg(args[0], "id", &call.id) < 0
        || ipckit_long_arg(args[1], "select", LONG_MIN, LONG_MAX, &call.select) < 0
        || ipckit_int_arg(args[2], "flags", &call.flags) < 0
        || ipckit_size_arg(args[3], "size", &size) < 0
        || ipckit_wait_arg(args[4], &wait_ns) < 0
        || ipckit_message_form_arg(args[5], &form) < 0) {
        return NULL;
    }
    message_buffer stack;
    call.size = (size_t)size;
    call.message = new_buffer(&stack, call.size);
    if (call.message == NULL) {
        return NULL;
    }
    ssize_t got = perform(&call, wait_ns);
    PyObject *result = received(module, &call, form, got);
    free_buffer(call.message, &stack);
    return result;
}

static PyMethodDef functions[] = {
    {"msgsnd", (PyCFunction)(void (*)(void))native_msgsnd, METH_FASTCALL, msgsnd_doc},
    {"msgrcv", (PyCFunction)(void (*)(void))native_msgrcv, METH_FASTCALL, msgrcv_doc},
    {NULL, NULL, 0, NULL},
};

/* Adds the functions and constants of this file to the module: 0, or -1 with an exception set. */
int
ipckit_add_sysv_msg(PyObject *module)
{
    if (PyModule_AddIntMacro(module, MSG_NOERROR) < 0 || PyModule_AddIntMacro(module, MSG_EXCEPT) < 0
        || PyModule_AddIntMacro(module, MSG_COPY) < 0
        || PyModule_AddIntMacro(module, IPC_NOWAIT) < 0
        || PyModule_AddIntMacro(module, WAIT_MARK) < 0
        || PyModule_AddIntMacro(module, WAIT_RECEIVES) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
