/* Sending on a UNIX socket. */
#include "sockets/socket.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* One sendmsg, which waits if `may_wait`. Keeps the GIL for a short message that does not wait:
   releasing it costs more than the copy. Returns the bytes that were sent, or -1 with errno. */
static ssize_t
send_once(int fd, const struct msghdr *message, bool may_wait)
{
    int flags = MSG_NOSIGNAL | (may_wait ? 0 : MSG_DONTWAIT);
    if (!may_wait && message->msg_iov->iov_len <= GIL_FREE_BYTES) {
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

/* Sends without waiting first, then waits in the kernel if there is no deadline. Returns the bytes
   that were sent; or -1 with errno; or -1 with errno 0 and the exception of a signal's handler. */
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

/* Has the handle's method do the rest of a send after `sent` bytes. A new reference to None, or NULL
   with an exception set. */
static PyObject *
send_in_python(unix_object *self, const unix_arg *given, Py_ssize_t sent)
{
    PyObject *none = given[SEND_FDS].value == NULL ? PyTuple_New(0) : NULL;
    PyObject *fds = none == NULL ? given[SEND_FDS].value : none;
    if (fds == NULL) {
        return NULL;
    }
    PyObject *credentials = given[SEND_CREDENTIALS].value;
    PyObject *to = given[SEND_TO].value, *timeout = given[SEND_TIMEOUT].value;
    PyObject *result = PyObject_CallMethod(
        (PyObject *)self, "_send_in_python", "OOOOOn", given[SEND_DATA].value, fds,
        credentials == NULL ? Py_False : credentials, to == NULL ? Py_None : to,
        timeout == NULL ? Py_None : timeout, sent);
    Py_XDECREF(none);
    return result;
}

const char ipckit_unix_send_doc[] =
    "send($self, data, *, fds=(), credentials=False, to=None, timeout=None)\n--\n\n"
    "Send bytes, and descriptors with them.\n\n"
    "A stream takes any number of bytes. The other kinds send the bytes of each call as one\n"
    "message.\n\n"
    "Args:\n"
    "    data: bytes, or any contiguous buffer.\n"
    "    fds: up to 253 descriptors: numbers, or objects with `fileno`. The receiver gets\n"
    "        duplicates, and the caller keeps these. On a stream they need a byte to go with.\n"
    "    credentials: send this process's pid, real uid and real gid, which the kernel checks.\n"
    "    to: a datagram's receiver, if the socket is not connected.\n"
    "    timeout: seconds to wait for room; None (the default) waits for ever, 0 not at all.\n\n"
    "Raises:\n"
    "    PeerGone: the peer closed its end. SIGPIPE is never sent.\n"
    "    Timeout: there was no room until the deadline. If a part of a stream's bytes had been\n"
    "        sent by then, the message says how many.\n"
    "    WouldBlock: there is no room, with a timeout of 0.\n"
    "    MessageTooLong: the message is larger than the send buffer (SO_SNDBUF).\n"
    "    LimitReached: more than 253 descriptors, or more in transit than RLIMIT_NOFILE.\n"
    "    InvalidArgument: descriptors without a byte on a stream, or a descriptor that is not\n"
    "        open.\n"
    "    NotFound: no socket has the address `to`.\n"
    "    ClosedHandle: the handle is closed.\n\n"
    "Example:\n"
    "    >>> from ipckit import unixsock\n"
    "    >>> a, b = unixsock.pair(\"seqpacket\")\n"
    "    >>> with a, b:\n"
    "    ...     a.send(b\"request\", timeout=5)\n"
    "    ...     b.receive(timeout=5)\n"
    "    <Packet 7 bytes>\n\n"
    "See sendmsg(2) and unix(7).";

/* Whether this file can send the message: without credentials or an address, and with a plain
   timeout and descriptors, which are put into `message`. An exception may be set if not. */
static bool
is_simple_send(const unix_arg *given, int64_t *wait_ns, unix_rights *rights, struct msghdr *message)
{
    PyObject *credentials = given[SEND_CREDENTIALS].value;
    PyObject *to = given[SEND_TO].value, *fds = given[SEND_FDS].value;
    return (credentials == NULL || credentials == Py_False) && (to == NULL || to == Py_None)
           && ipckit_unix_wait(given[SEND_TIMEOUT].value, wait_ns)
           && (fds == NULL || ipckit_unix_rights(fds, rights, message) == 0);
}

/* Raises the error for errno of a send of `size` bytes; always NULL. */
static PyObject *
send_failed(unix_object *self, int error, Py_ssize_t size, PyObject *fds)
{
    PyObject *context = Py_BuildValue("nO", size, fds == NULL ? Py_None : fds);
    if (context != NULL) {
        ipckit_unix_raise(self, error, "_send_error", context);
        Py_DECREF(context);
    }
    return NULL;
}

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
    Py_buffer data;
    if (!is_simple_send(given, &wait_ns, &rights, &message)
        || ipckit_get_buffer(given[SEND_DATA].value, &data, PyBUF_SIMPLE) < 0) {
        return ipckit_unix_clear_exception() ? send_in_python(self, given, 0) : NULL;
    }
    vector = (struct iovec){.iov_base = data.buf, .iov_len = (size_t)data.len};
    PyObject *fds = given[SEND_FDS].value;
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
        return send_in_python(self, given, sent < 0 ? 0 : sent);
    }
    return error == 0 ? NULL : send_failed(self, error, size, fds);
}

/* Appends a control message with this process's pid, real uid and real gid. */
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

/* Sets the receiver's address, unless `object` is None. It has the bytes of a path, or a NUL and an
   abstract name. `name` must live as long as `message`. 0, or -1 with an exception set. */
static int
set_address(PyObject *object, struct sockaddr_un *name, struct msghdr *message)
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
    "sendmsg(2) without waiting and without SIGPIPE. Returns how many bytes were sent. `fds` is a\n"
    "list of numbers, `address` None or bytes.\n"
    "OSError: EAGAIN if there is no room, otherwise as sendmsg(2).";

/* sendmsg without the GIL. Returns the bytes that were sent, or -1 with errno. */
static ssize_t
send_without_gil(unix_object *self, const struct msghdr *message)
{
    int fd = ipckit_unix_fd(self);
    if (fd < 0) {
        return -1;
    }
    ssize_t sent;
    int error;
    Py_BEGIN_ALLOW_THREADS
    sent = sendmsg(fd, message, MSG_DONTWAIT | MSG_NOSIGNAL);
    error = errno;
    Py_END_ALLOW_THREADS
    errno = error;
    return sent;
}

PyObject *
ipckit_unix_sendmsg(unix_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    unix_rights rights = {0};
    struct sockaddr_un name;
    struct iovec vector;
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (ipckit_check_nargs("_sendmsg", nargs, 4) < 0) {
        return NULL;
    }
    int credentials = PyObject_IsTrue(args[2]);
    if (credentials < 0 || set_address(args[3], &name, &message) < 0) {
        return NULL;
    }
    if (ipckit_unix_rights(args[1], &rights, &message) < 0) {
        PyErr_SetString(PyExc_ValueError, "descriptors are a list of up to 253 numbers");
        return NULL;
    }
    Py_buffer data;
    if (PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (credentials) {
        add_credentials(&rights, &message);
    }
    vector = (struct iovec){.iov_base = data.buf, .iov_len = (size_t)data.len};
    ssize_t sent = send_without_gil(self, &message);
    int error = errno;
    PyBuffer_Release(&data);
    if (sent < 0) {
        errno = error == EINTR ? EAGAIN : error; /* a signal came first: try again */
        return ipckit_oserror();
    }
    return PyLong_FromSsize_t(sent);
}
