/* Sending on a UNIX socket. */
#include "sockets/socket.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* One sendmsg; the GIL is kept for a short one that does not sleep. */
static ssize_t
send_once(int fd, const struct msghdr *message, bool asleep)
{
    int flags = MSG_NOSIGNAL | (asleep ? 0 : MSG_DONTWAIT);
    if (!asleep && message->msg_iov->iov_len <= GIL_FREE_BYTES) {
        return sendmsg(fd, message, flags);
    }
    ssize_t sent;
    int error;
    Py_BEGIN_ALLOW_THREADS
    sent = sendmsg(fd, message, flags);
    error = errno;
    Py_END_ALLOW_THREADS
    errno = error;
    return sent;
}

/* How many bytes were sent; -1 with errno, or with an exception set and errno 0. */
static ssize_t
send_message(int fd, const struct msghdr *message, int64_t wait_ns)
{
    ssize_t sent = send_once(fd, message, false);
    if (sent < 0 && errno == EAGAIN && wait_ns == WAIT_FOREVER) {
        do {
            sent = send_once(fd, message, true);
            if (sent < 0 && errno == EINTR && PyErr_CheckSignals() < 0) {
                errno = 0;
                return -1;
            }
        } while (sent < 0 && errno == EINTR);
    }
    return sent;
}

enum { SEND_DATA, SEND_FDS, SEND_CREDENTIALS, SEND_TO, SEND_TIMEOUT, SEND_COUNT };

static PyObject *
send_slowly(unix_object *self, const unix_arg *given, Py_ssize_t sent)
{
    PyObject *none = given[SEND_FDS].value == NULL ? PyTuple_New(0) : NULL;
    PyObject *fds = none == NULL ? given[SEND_FDS].value : none;
    if (fds == NULL) {
        return NULL;
    }
    PyObject *credentials = given[SEND_CREDENTIALS].value;
    PyObject *to = given[SEND_TO].value, *timeout = given[SEND_TIMEOUT].value;
    PyObject *result = PyObject_CallMethod(
        (PyObject *)self, "_send_slowly", "OOOOOn", given[SEND_DATA].value, fds,
        credentials == NULL ? Py_False : credentials, to == NULL ? Py_None : to,
        timeout == NULL ? Py_None : timeout, sent);
    Py_XDECREF(none);
    return result;
}

const char ipckit_unix_send_doc[] =
    "send($self, data, *, fds=(), credentials=False, to=None, timeout=None)\n--\n\n"
    "Send bytes, and descriptors with them.\n\n"
    "A stream takes any number of bytes; the other kinds keep each call's apart as one\n"
    "message.\n\n"
    "Args:\n"
    "    data: bytes, or any contiguous buffer.\n"
    "    fds: up to 253 descriptors: numbers, or whatever has `fileno`. The receiver gets\n"
    "        duplicates; these stay the caller's. On a stream they need a byte to go with.\n"
    "    credentials: send this process's pid, real uid and gid along, for the kernel to\n"
    "        check.\n"
    "    to: a datagram's receiver, where the socket is not connected.\n"
    "    timeout: seconds to wait for room; None waits for ever, 0 not at all.\n\n"
    "Raises:\n"
    "    PeerGone: the other side is closed. SIGPIPE is never sent.\n"
    "    Timeout: there was no room until the deadline. Where part of a stream's bytes had\n"
    "        been sent by then, the message says how many.\n"
    "    WouldBlock: there is no room, with a timeout of 0.\n"
    "    MessageTooLong: a message larger than the send buffer (SO_SNDBUF) takes.\n"
    "    LimitReached: more than 253 descriptors, or more under way than RLIMIT_NOFILE.\n"
    "    InvalidArgument: descriptors without a byte on a stream, or one that is not open.\n"
    "    NotFound: no socket has the address `to`.\n"
    "    ClosedHandle: the handle is closed.\n\n"
    "See sendmsg(2) and unix(7).";

PyObject *
ipckit_unix_send(unix_object *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    unix_arg given[SEND_COUNT] = {
        {"data", NULL}, {"fds", NULL}, {"credentials", NULL}, {"to", NULL}, {"timeout", NULL}};
    if (ipckit_unix_parse("send", args, nargs, kwnames, given, SEND_COUNT) < 0) {
        return NULL;
    }
    if (given[SEND_DATA].value == NULL) {
        PyErr_SetString(PyExc_TypeError, "send() takes data");
        return NULL;
    }
    int64_t wait_ns;
    unix_rights rights;
    struct iovec vector;
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    PyObject *fds = given[SEND_FDS].value;
    bool usual = (given[SEND_CREDENTIALS].value == NULL || given[SEND_CREDENTIALS].value == Py_False)
                 && (given[SEND_TO].value == NULL || given[SEND_TO].value == Py_None)
                 && ipckit_unix_wait(given[SEND_TIMEOUT].value, &wait_ns)
                 && (fds == NULL || ipckit_unix_rights(fds, &rights, &message) == 0);
    Py_buffer data;
    if (!usual || ipckit_check_array(given[SEND_DATA].value) < 0
        || PyObject_GetBuffer(given[SEND_DATA].value, &data, PyBUF_SIMPLE) < 0) {
        return ipckit_unix_pass_over() ? send_slowly(self, given, 0) : NULL;
    }
    vector = (struct iovec){.iov_base = data.buf, .iov_len = (size_t)data.len};
    Py_ssize_t size = data.len, sent = -1;
    int fd = fds != NULL && size == 0 && self->stream ? -1 : ipckit_unix_fd(self);
    if (fd >= 0) {
        sent = send_message(fd, &message, wait_ns);
    }
    int error = fd < 0 ? EAGAIN : errno;
    PyBuffer_Release(&data);
    if (sent == size) {
        Py_RETURN_NONE;
    }
    if (sent >= 0 || error == EAGAIN || error == EINTR) {
        return send_slowly(self, given, sent < 0 ? 0 : sent);
    }
    if (error == 0) {
        return NULL; /* what a signal's handler raised is nobody's to explain */
    }
    PyObject *context = Py_BuildValue("nO", size, fds == NULL ? Py_None : fds);
    if (context != NULL) {
        ipckit_unix_explain(self, error, "_explain_send", context);
        Py_DECREF(context);
    }
    return NULL;
}

/* Puts this process's pid, real uid and real gid behind what the message carries already. */
static void
add_credentials(unix_rights *rights, struct msghdr *message)
{
    size_t used = message->msg_control == NULL ? 0 : message->msg_controllen;
    struct ucred own = {.pid = getpid(), .uid = getuid(), .gid = getgid()};
    struct cmsghdr header = {.cmsg_level = SOL_SOCKET,
                             .cmsg_type = SCM_CREDENTIALS,
                             .cmsg_len = CMSG_LEN(sizeof own)};
    memcpy(rights->memory + used, &header, sizeof header);
    memcpy(rights->memory + used + CMSG_LEN(0), &own, sizeof own);
    message->msg_control = rights->memory;
    message->msg_controllen = used + CMSG_SPACE(sizeof own);
}

/* A receiver's address from the bytes of its path, or of an abstract name with its NUL in front: 0, or
   -1 with an exception set. */
static int
put_address(PyObject *object, struct sockaddr_un *name, struct msghdr *message)
{
    if (object == Py_None) {
        return 0;
    }
    char *text;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(object, &text, &size) < 0) {
        return -1;
    }
    if (size < 1 || (size_t)size > sizeof name->sun_path) {
        PyErr_SetString(PyExc_ValueError, "an address has 1 to 108 bytes");
        return -1;
    }
    *name = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(name->sun_path, text, (size_t)size);
    message->msg_name = name;
    message->msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)size);
    return 0;
}

const char ipckit_unix_sendmsg_doc[] =
    "_sendmsg($self, data, fds, credentials, address, /)\n--\n\n"
    "sendmsg(2) without waiting, and without SIGPIPE: how many bytes were sent. `fds` is a list of\n"
    "numbers, `address` None or bytes.\n"
    "OSError: EAGAIN if there is no room, otherwise as the kernel gives it.";

PyObject *
ipckit_unix_sendmsg(unix_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    unix_rights rights = {0};
    struct sockaddr_un name;
    struct iovec vector;
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    Py_buffer data;
    if (ipckit_check_nargs("_sendmsg", nargs, 4) < 0) {
        return NULL;
    }
    int credentials = PyObject_IsTrue(args[2]);
    if (credentials < 0 || put_address(args[3], &name, &message) < 0) {
        return NULL;
    }
    if (ipckit_unix_rights(args[1], &rights, &message) < 0) {
        PyErr_SetString(PyExc_ValueError, "descriptors are a list of up to 253 numbers");
        return NULL;
    }
    if (PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (credentials) {
        add_credentials(&rights, &message);
    }
    vector = (struct iovec){.iov_base = data.buf, .iov_len = (size_t)data.len};
    int fd = ipckit_unix_fd(self);
    ssize_t sent = -1;
    int error = EBADF;
    if (fd >= 0) {
        Py_BEGIN_ALLOW_THREADS
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        error = errno;
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    if (sent < 0) {
        errno = error == EINTR ? EAGAIN : error;
        return ipckit_oserror();
    }
    return PyLong_FromSsize_t(sent);
}
