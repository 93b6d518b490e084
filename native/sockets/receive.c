/* Receiving on a UNIX socket, if the caller wants only the bytes. */
#include "sockets/socket.h"

#include <errno.h>
#include <limits.h>

#define DEFAULT_SIZE 65536

/* One recv. Into the shared stage it never waits and keeps the GIL, which guards the stage. Returns
   the bytes that came, or -1 with errno. */
static ssize_t
receive_once(int fd, unix_buffer *buffer, int flags)
{
    if (buffer->bytes == NULL) {
        return recv(fd, buffer->memory, (size_t)buffer->size, flags | MSG_DONTWAIT);
    }
    ssize_t got;
    int error;
    Py_BEGIN_ALLOW_THREADS
    got = recv(fd, buffer->memory, (size_t)buffer->size, flags);
    error = errno;
    Py_END_ALLOW_THREADS
    errno = error;
    return got;
}

/* Waits in the kernel for a message. The buffer is not the stage. Returns the bytes that came; or -1
   with errno; or -1 with errno 0 and the exception of a signal's handler. */
static ssize_t
wait_and_receive(int fd, unix_buffer *buffer, int flags)
{
    ssize_t got;
    while ((got = receive_once(fd, buffer, flags)) < 0 && errno == EINTR) {
        if (PyErr_CheckSignals() < 0) {
            errno = 0;
            return -1;
        }
    }
    return got;
}

/* The packet of `got` bytes, or NULL with the exception for errno if `got` is negative. Consumes the
   buffer. */
static PyObject *
packet_of(unix_object *self, unix_buffer *buffer, ssize_t got)
{
    bool cut = got > buffer->size;
    if (got <= 0) {
        int error = errno;
        ipckit_unix_buffer_drop(buffer);
        return got < 0 ? ipckit_unix_raise(self, error, "_receive_error", Py_None)
                       : PyObject_CallMethod((PyObject *)self, "_empty_packet", NULL);
    }
    self->last_size = got;
    PyObject *data = ipckit_unix_buffer_take(buffer, cut ? buffer->size : got);
    PyObject *packet = ipckit_packet_new(self->packet_type, data);
    if (packet != NULL && cut) {
        ((packet_object *)packet)->truncated = 1;
    }
    return packet;
}

/* Receives bytes. recv(2) closes descriptors that the caller does not want, as `receive` promises.
   Returns a packet, or NULL with an exception set; or NULL with `in_python` set if Python has to wait
   until the deadline, or to report that memory is short. */
static PyObject *
receive_bytes(unix_object *self, int fd, Py_ssize_t size, int64_t wait_ns, bool *in_python)
{
    int flags = self->stream ? 0 : MSG_TRUNC; /* MSG_TRUNC: recv returns the message's whole size */
    unix_buffer buffer;
    bool staged = size <= STAGE_BYTES && self->last_size <= GIL_FREE_BYTES;
    *in_python = ipckit_unix_buffer(&buffer, size, staged) < 0;
    if (*in_python) {
        return NULL;
    }
    ssize_t got = receive_once(fd, &buffer, flags | MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN && wait_ns == WAIT_FOREVER) {
        *in_python = staged && ipckit_unix_buffer(&buffer, size, false) < 0;
        if (*in_python) {
            return NULL;
        }
        got = wait_and_receive(fd, &buffer, flags);
    }
    if (got >= 0 || (errno != 0 && errno != EAGAIN && errno != EINTR)) {
        return packet_of(self, &buffer, got);
    }
    *in_python = errno != 0;
    ipckit_unix_buffer_drop(&buffer);
    return NULL;
}

enum { RECEIVE_BYTES, RECEIVE_FDS, RECEIVE_TIMEOUT, RECEIVE_COUNT };

/* Has the handle's method receive. A new reference to a packet, or NULL with an exception set. */
static PyObject *
receive_in_python(unix_object *self, const unix_arg *given)
{
    PyObject *size = NULL, *fds = NULL, *result = NULL;
    PyObject *timeout = given[RECEIVE_TIMEOUT].value;
    size = given[RECEIVE_BYTES].value != NULL ? Py_NewRef(given[RECEIVE_BYTES].value)
                                              : PyLong_FromLong(DEFAULT_SIZE);
    fds = given[RECEIVE_FDS].value != NULL ? Py_NewRef(given[RECEIVE_FDS].value)
                                           : PyLong_FromLong(0);
    if (size != NULL && fds != NULL) {
        result = PyObject_CallMethod((PyObject *)self, "_receive_in_python", "OOO", size, fds,
                                     timeout == NULL ? Py_None : timeout);
    }
    Py_XDECREF(size);
    Py_XDECREF(fds);
    return result;
}

const char ipckit_unix_receive_doc[] =
    "receive($self, max_bytes=65536, *, max_fds=0, timeout=None)\n--\n\n"
    "Receive a message, or on a stream the bytes that are there.\n\n"
    "Descriptors that the caller does not want are closed. On a stream, a call returns no bytes\n"
    "beyond those that came with descriptors. The end is a packet with `eof`. An empty\n"
    "seqpacket message is not mistaken for the end, unless its sender closed right after it;\n"
    "with `pass_credentials` not even then.\n\n"
    "Args:\n"
    "    max_bytes: the most bytes to take, 1 or more; by default 64 KiB. A longer message is\n"
    "        cut, and `truncated` is set; on a stream the next call returns the rest.\n"
    "    max_fds: how many descriptors the caller accepts, 0 (the default) to 253.\n"
    "    timeout: seconds to wait; None (the default) waits for ever, 0 not at all.\n\n"
    "Returns:\n"
    "    The packet, which owns the descriptors that came.\n\n"
    "Raises:\n"
    "    Timeout: nothing came before the deadline.\n"
    "    WouldBlock: nothing is there, with a timeout of 0.\n"
    "    PeerGone: the peer closed its end before it had read all bytes, or no process receives\n"
    "        the datagrams of this connected socket.\n"
    "    MessageTooLong: more descriptors came than `max_fds`; all are closed.\n"
    "    LimitReached: the process has no room for the descriptors (RLIMIT_NOFILE); all are\n"
    "        closed, and the message is lost.\n"
    "    InvalidArgument: `max_bytes` or `max_fds` is out of range.\n"
    "    ClosedHandle: the handle is closed.\n\n"
    "Example:\n"
    "    >>> from ipckit import unixsock\n"
    "    >>> a, b = unixsock.pair()\n"
    "    >>> a.close()\n"
    "    >>> with b:\n"
    "    ...     b.receive().eof\n"
    "    True\n\n"
    "See recvmsg(2), MSG_CMSG_CLOEXEC, and unix(7).";

/* Whether the kernel passes the sender's credentials with each message. The call takes a sixth of the
   time of a receive, so it is made only for a socket whose options the caller can set directly. */
static bool
passes_credentials(int fd)
{
    int value = 0;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, SO_PASSCRED, &value, &size) == 0 && value != 0;
}

/* A count from an argument, or `otherwise` if it is NULL; -1 if Python has to check it. */
static long
small_int(PyObject *object, long otherwise)
{
    if (object == NULL) {
        return otherwise;
    }
    int overflow;
    long value = PyLong_CheckExact(object) ? PyLong_AsLongAndOverflow(object, &overflow) : -1;
    return value <= INT_MAX ? value : -1;
}

PyObject *
ipckit_unix_receive(unix_object *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    unix_arg given[RECEIVE_COUNT] = {{"max_bytes", NULL}, {"max_fds", NULL}, {"timeout", NULL}};
    if (ipckit_unix_parse("receive", args, nargs, kwnames, given, RECEIVE_COUNT) < 0) {
        return NULL;
    }
    int64_t wait_ns;
    long size = small_int(given[RECEIVE_BYTES].value, DEFAULT_SIZE);
    long max_fds = small_int(given[RECEIVE_FDS].value, 0);
    bool simple = self->bytes_only && size > 0 && max_fds >= 0 && max_fds <= SCM_MAX_FD
                  && ipckit_unix_wait(given[RECEIVE_TIMEOUT].value, &wait_ns);
    int fd = simple ? ipckit_unix_fd(self) : -1;
    if (fd >= 0 && (max_fds > 0 || !self->exposed || !passes_credentials(fd))) {
        bool in_python = false;
        PyObject *packet = max_fds == 0
                               ? receive_bytes(self, fd, size, wait_ns, &in_python)
                               : ipckit_unix_receive_fds(self, fd, size, max_fds, &in_python);
        if (!in_python) {
            return packet;
        }
    }
    return ipckit_unix_clear_exception() ? receive_in_python(self, given) : NULL;
}
