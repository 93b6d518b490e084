/* recv, send, accept4 and poll on any stream or datagram socket. Only poll waits.

   They take a descriptor and not a socket object, because gevent and eventlet replace the methods of
   socket objects by methods that wait without a deadline, and eventlet removes select.poll. */
#include "sockets/socket.h"
#include "ring/clock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

/* Parses a descriptor: 0, or -1 with an exception set. */
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

/* Parses (fd, buffer, flags): 0, or -1 with an exception set. On success the caller releases the
   buffer. */
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

/* The result of a transfer for Python, after releasing the buffer. EINTR becomes EAGAIN: a signal came
   before a byte was transferred, and the caller tries again. */
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
                       "recv(2) into a writable buffer, without waiting. Returns how many bytes\n"
                       "came.\n"
                       "OSError: EAGAIN if nothing is there, otherwise as the system call.");

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
                       "send(2) without waiting and without SIGPIPE. Returns how many bytes were\n"
                       "sent.\n"
                       "OSError: EAGAIN if there is no room, otherwise as the system call.");

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
                         "accept4(2). Returns the connection's descriptor, which is close-on-exec.\n"
                         "OSError: EAGAIN if no connection waits and the listener is non-blocking.");

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

/* The timeout for poll in milliseconds, -1 for none. Rounded up: a shorter wait would cost another
   call, or end in an early Timeout. */
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
                       "poll(2) one descriptor. Returns True if it is ready or has failed, False if\n"
                       "the timeout (seconds, or None) came first.");

/* Polls until the descriptor is ready or the wait is over, without the GIL: 1 if it is ready, 0 if the
   deadline came first, or -1 with an exception set. */
static int
poll_until_ready(int fd, short events, int64_t wait_ns)
{
    int64_t deadline = wait_ns == WAIT_FOREVER ? INT64_MAX : deadline_after(wait_ns);
    for (;;) {
        struct pollfd polled = {.fd = fd, .events = events};
        int pause = pause_ms(wait_ns, deadline);
        int ready, error;
        Py_BEGIN_ALLOW_THREADS
        ready = poll(&polled, 1, pause);
        error = errno;
        Py_END_ALLOW_THREADS
        if (ready > 0) {
            return 1;
        }
        if (ready < 0 && error != EINTR) {
            errno = error;
            ipckit_oserror();
            return -1;
        }
        if (ready < 0 && PyErr_CheckSignals() < 0) {
            return -1;
        }
        if (wait_ns != WAIT_FOREVER && monotonic_ns() >= deadline) {
            return 0;
        }
    }
}

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
    int ready = poll_until_ready(fd, (short)events, wait_ns);
    return ready < 0 ? NULL : PyBool_FromLong(ready);
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
