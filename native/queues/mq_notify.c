/* POSIX message queues: notification of a message that arrives in an empty queue. */
#include "native.h"

#include <mqueue.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's own length of the cookie behind SIGEV_THREAD. */
#define NOTIFY_COOKIE_BYTES 32

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
             "mq_notify(3): register for one signal, or give the registration up for signal 0.");

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
             "mq_notify(2) as the C library uses it for SIGEV_THREAD: the kernel writes 32 bytes to\n"
             "a netlink socket, the last being 1 when a message came and 2 when the registration\n"
             "ended.");

static PyObject *
native_mq_notify_socket(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int fd, socket;
    if (ipckit_check_nargs("mq_notify_socket", nargs, 2) < 0
        || ipckit_int_arg(args[0], "fd", &fd) < 0
        || ipckit_int_arg(args[1], "socket", &socket) < 0) {
        return NULL;
    }
    static char cookie[NOTIFY_COOKIE_BYTES]; /* the kernel copies it during the call */
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_signo = socket};
    event.sigev_value.sival_ptr = cookie;
    /* The C library's mq_notify would start its own thread. */
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

int
ipckit_add_mq_notify(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
