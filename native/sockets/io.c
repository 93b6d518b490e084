/* Calls on any stream or datagram socket that do not wait, and the one that does.

   They take a descriptor and not a socket object: gevent and eventlet replace the methods of those by
   ones that wait without an end, and take select.poll away. */
#include "ring/clock.h"
#include "sockets/socket.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

/* The descriptor in an argument: 0, or -1 with an exception set. */
static int
fd_arg(PyObject *object, int *fd)
{
    long number;
    if (ipckit_long_arg(object, "fd", INT_MIN, INT_MAX, &number) < 0) {
        return -1;
    }
    *fd = (int)number;
    return 0;
}

/* Takes (fd, buffer, flags): 0, or -1 with an exception set. The caller releases the buffer. */
static int
transfer_args(const char *function, PyObject *const *args, Py_ssize_t nargs, int access, int *fd,
              Py_buffer *buffer, int *flags)
{
    if (ipckit_check_nargs(function, nargs, 3) < 0 || fd_arg(args[0], fd) < 0
        || ipckit_int_arg(args[2], "flags", flags) < 0) {
        return -1;
    }
    return PyObject_GetBuffer(args[1], buffer, access);
}

/* What a transfer gave, as Python has it. A signal came before anything was done: try again. */
static PyObject *
transferred(Py_buffer *buffer, ssize_t count, int error)
{
    PyBuffer_Release(buffer);
    if (count < 0) {
        errno = error == EINTR ? EAGAIN : error;
        return ipckit_oserror();
    }
    return PyLong_FromSsize_t(count);
}

PyDoc_STRVAR(recv_doc, "socket_recv(fd, buffer, flags, /)\n--\n\n"
                       "recv(2) into a writable buffer, without waiting: how many bytes came.\n"
                       "OSError: EAGAIN if nothing is there, otherwise as the kernel gives it.");

static PyObject *
native_recv(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int fd, flags, error;
    Py_buffer buffer;
    if (transfer_args("socket_recv", args, nargs, PyBUF_WRITABLE, &fd, &buffer, &flags) < 0) {
        return NULL;
    }
    ssize_t count;
    Py_BEGIN_ALLOW_THREADS
    count = recv(fd, buffer.buf, (size_t)buffer.len, flags | MSG_DONTWAIT);
    error = errno;
    Py_END_ALLOW_THREADS
    return transferred(&buffer, count, error);
}

PyDoc_STRVAR(send_doc, "socket_send(fd, data, flags, /)\n--\n\n"
                       "send(2) without waiting, and without SIGPIPE: how many bytes were sent.\n"
                       "OSError: EAGAIN if there is no room, otherwise as the kernel gives it.");

static PyObject *
native_send(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int fd, flags, error;
    Py_buffer buffer;
    if (transfer_args("socket_send", args, nargs, PyBUF_SIMPLE, &fd, &buffer, &flags) < 0) {
        return NULL;
    }
    ssize_t count;
    Py_BEGIN_ALLOW_THREADS
    count = send(fd, buffer.buf, (size_t)buffer.len, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
    error = errno;
    Py_END_ALLOW_THREADS
    return transferred(&buffer, count, error);
}

PyDoc_STRVAR(accept_doc, "socket_accept(fd, /)\n--\n\n"
                         "accept4(2): a connection's descriptor, close-on-exec and the caller's.\n"
                         "OSError: EAGAIN if there is none and the listener does not block.");

static PyObject *
native_accept(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int fd;
    if (fd_arg(arg, &fd) < 0) {
        return NULL;
    }
    for (;;) {
        int made, error;
        Py_BEGIN_ALLOW_THREADS
        made = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        error = errno;
        Py_END_ALLOW_THREADS
        if (made >= 0) {
            PyObject *number = PyLong_FromLong(made);
            if (number == NULL) {
                close(made);
            }
            return number;
        }
        if (error != EINTR) {
            errno = error;
            return ipckit_oserror();
        }
        if (PyErr_CheckSignals() < 0) {
            return NULL;
        }
    }
}

/* How long poll may sleep, in its milliseconds. Rounded up: a wait that is cut short would be one
   more turn, or an early Timeout. */
static int
pause_ms(int64_t wait_ns, int64_t deadline)
{
    if (wait_ns == WAIT_FOREVER) {
        return -1;
    }
    int64_t left = deadline - monotonic_ns();
    if (left <= 0) {
        return 0;
    }
    int64_t ms = left / NS_PER_MS + 1;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

PyDoc_STRVAR(poll_doc, "socket_poll(fd, events, timeout, /)\n--\n\n"
                       "poll(2) one descriptor: true when it is ready or failed, false when the\n"
                       "timeout (seconds, or None for no end) came first.");

static PyObject *
native_poll(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int fd;
    long events;
    int64_t wait_ns;
    if (ipckit_check_nargs("socket_poll", nargs, 3) < 0 || fd_arg(args[0], &fd) < 0
        || ipckit_long_arg(args[1], "events", 0, SHRT_MAX, &events) < 0
        || ipckit_wait_arg(args[2], &wait_ns) < 0) {
        return NULL;
    }
    int64_t deadline = wait_ns == WAIT_FOREVER ? INT64_MAX : deadline_after(wait_ns);
    for (;;) {
        struct pollfd polled = {.fd = fd, .events = (short)events};
        int pause = pause_ms(wait_ns, deadline);
        int ready, error;
        Py_BEGIN_ALLOW_THREADS
        ready = poll(&polled, 1, pause);
        error = errno;
        Py_END_ALLOW_THREADS
        if (ready > 0) {
            Py_RETURN_TRUE;
        }
        if (ready < 0 && error != EINTR) {
            errno = error;
            return ipckit_oserror();
        }
        if (ready < 0 && PyErr_CheckSignals() < 0) {
            return NULL;
        }
        if (wait_ns != WAIT_FOREVER && monotonic_ns() >= deadline) {
            Py_RETURN_FALSE;
        }
    }
}

static PyMethodDef functions[] = {
    {"socket_recv", (PyCFunction)(void (*)(void))native_recv, METH_FASTCALL, recv_doc},
    {"socket_send", (PyCFunction)(void (*)(void))native_send, METH_FASTCALL, send_doc},
    {"socket_accept", native_accept, METH_O, accept_doc},
    {"socket_poll", (PyCFunction)(void (*)(void))native_poll, METH_FASTCALL, poll_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_unix_io(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
