/* POSIX message queues: notification of a message that arrives in an empty queue. */
#include "native.h"

#include <mqueue.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of <linux/mqueue.h>: the bytes that the kernel writes for one notification, and their last byte
   when a message arrived. It is another one when the registration ended. */
#define NOTIFY_COOKIE_LEN 32
#define NOTIFY_WOKENUP 1

/* Registers for `event`, or ends the registration if it is NULL. Returns None, or NULL with OSError
   set: EBUSY if a process has registered. */
static PyObject *
set_notification(int fd, const struct sigevent *event)
{
    if (mq_notify(fd, event) < 0) {
        return ipckit_oserror();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(mq_notify_signal_doc,
             "mq_notify_signal(fd, signal, /)\n--\n\n"
             "mq_notify(3): register for one signal, or end the registration if `signal` is 0.");

/* Returns None. */
static PyObject *
native_mq_notify_signal(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int fd;
    long number;
    if (ipckit_check_nargs("mq_notify_signal", nargs, 2) < 0
        || ipckit_int_arg(args[0], "fd", &fd) < 0
        || ipckit_long_arg(args[1], "signal", 0, SIGRTMAX, &number) < 0) {
        return NULL;
    }
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = (int)number};
    return set_notification(fd, number ? &event : NULL);
}

PyDoc_STRVAR(mq_notify_socket_doc,
             "mq_notify_socket(fd, socket, /)\n--\n\n"
             "mq_notify(2) as the C library uses it for SIGEV_THREAD: the kernel writes\n"
             "NOTIFY_COOKIE_LEN bytes to a netlink socket. The last is NOTIFY_WOKENUP when a message\n"
             "arrived, and another byte when the registration ended.");

/* Returns None, or NULL with OSError set: EBUSY if a process has registered. */
static PyObject *
native_mq_notify_socket(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int fd, socket;
    if (ipckit_check_nargs("mq_notify_socket", nargs, 2) < 0
        || ipckit_int_arg(args[0], "fd", &fd) < 0
        || ipckit_int_arg(args[1], "socket", &socket) < 0) {
        return NULL;
    }
    static char cookie[NOTIFY_COOKIE_LEN]; /* the kernel copies it during the call */
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_signo = socket};
    event.sigev_value.sival_ptr = cookie;
    /* Not the C library's mq_notify, which would start a thread of its own. */
    if (syscall(SYS_mq_notify, fd, &event) < 0) {
        return ipckit_oserror();
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"mq_notify_signal", (PyCFunction)(void (*)(void))native_mq_notify_signal, METH_FASTCALL,
     mq_notify_signal_doc},
    {"mq_notify_socket", (PyCFunction)(void (*)(void))native_mq_notify_socket, METH_FASTCALL,
     mq_notify_socket_doc},
    {NULL, NULL, 0, NULL},
};

/* Adds the functions and constants of this file to the module: 0, or -1 with an exception set. */
int
ipckit_add_mq_notify(PyObject *module)
{
    if (PyModule_AddIntMacro(module, NOTIFY_COOKIE_LEN) < 0
        || PyModule_AddIntMacro(module, NOTIFY_WOKENUP) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
