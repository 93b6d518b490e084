/* Receiving on a UNIX socket what has nothing but bytes. */
#include "sockets/socket.h"

#include <errno.h>
#include <limits.h>

#define DEFAULT_SIZE 65536

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

/* What came, or what it means that nothing did; ends the buffer. */
static PyObject *
packet_of(unix_object *self, unix_buffer *buffer, ssize_t got)
{
    bool cut = got > buffer->size;
    if (got <= 0) {
        int error = errno;
        ipckit_unix_buffer_drop(buffer);
        return got < 0 ? ipckit_unix_explain(self, error, "_explain_receive", Py_None)
                       : PyObject_CallMethod((PyObject *)self, "_ended", NULL);
    }
    self->last_size = got;
    PyObject *data = ipckit_unix_buffer_take(buffer, cut ? buffer->size : got);
    PyObject *packet = ipckit_packet_new(self->packet_type, data);
    if (packet != NULL && cut) {
        ((packet_object *)packet)->truncated = 1;
    }
    return packet;
}

/* recv(2) closes descriptors that come unasked, as `receive` promises. */
static PyObject *
receive_plain(unix_object *self, int fd, Py_ssize_t size, int64_t wait_ns, bool *slow)
{
    int flags = self->stream ? 0 : MSG_TRUNC; /* which gives a message's whole size */
    unix_buffer buffer;
    bool staged = size <= STAGE_BYTES && self->last_size <= GIL_FREE_BYTES;
    *slow = ipckit_unix_buffer(&buffer, size, staged) < 0;
    if (*slow) {
        return NULL;
    }
    ssize_t got = receive_once(fd, &buffer, flags | MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN && wait_ns == WAIT_FOREVER) {
        *slow = staged && ipckit_unix_buffer(&buffer, size, false) < 0;
        if (*slow) {
            return NULL;
        }
        while ((got = receive_once(fd, &buffer, flags)) < 0 && errno == EINTR) {
            if (PyErr_CheckSignals() < 0) {
                ipckit_unix_buffer_drop(&buffer);
                return NULL;
            }
        }
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        ipckit_unix_buffer_drop(&buffer);
        *slow = true;
        return NULL;
    }
    return packet_of(self, &buffer, got);
}

enum { RECEIVE_BYTES, RECEIVE_FDS, RECEIVE_TIMEOUT, RECEIVE_COUNT };

static PyObject *
receive_slowly(unix_object *self, const unix_arg *given)
{
    PyObject *size = NULL, *fds = NULL, *result = NULL;
    PyObject *timeout = given[RECEIVE_TIMEOUT].value;
    size = given[RECEIVE_BYTES].value != NULL ? Py_NewRef(given[RECEIVE_BYTES].value)
                                              : PyLong_FromLong(DEFAULT_SIZE);
    fds = given[RECEIVE_FDS].value != NULL ? Py_NewRef(given[RECEIVE_FDS].value)
                                           : PyLong_FromLong(0);
    if (size != NULL && fds != NULL) {
        result = PyObject_CallMethod((PyObject *)self, "_receive_slowly", "OOO", size, fds,
                                     timeout == NULL ? Py_None : timeout);
    }
    Py_XDECREF(size);
    Py_XDECREF(fds);
    return result;
}

const char ipckit_unix_receive_doc[] =
    "receive($self, max_bytes=65536, *, max_fds=0, timeout=None)\n--\n\n"
    "Receive a message; on a stream, what has come.\n\n"
    "Descriptors that come unasked are closed. On a stream, one call gives no bytes beyond\n"
    "those that descriptors came with. The end is a packet with `eof`. An empty seqpacket\n"
    "message is told from it, except one that its sender sent right before it closed; with\n"
    "`pass_credentials` that one is told too.\n\n"
    "Args:\n"
    "    max_bytes: the most bytes to take, 1 or more. What is longer is cut, and `truncated`\n"
    "        says so; on a stream the rest comes with the next call.\n"
    "    max_fds: how many descriptors are welcome, up to 253.\n"
    "    timeout: seconds to wait; None waits for ever, 0 not at all.\n\n"
    "Returns:\n"
    "    The packet, which owns the descriptors that came.\n\n"
    "Raises:\n"
    "    Timeout: nothing came until the deadline.\n"
    "    WouldBlock: nothing is there, with a timeout of 0.\n"
    "    PeerGone: the other side closed with bytes of ours unread, or nobody receives what a\n"
    "        connected datagram socket sent.\n"
    "    MessageTooLong: more descriptors came than `max_fds`; all are closed.\n"
    "    LimitReached: the process has no room for the descriptors that came (RLIMIT_NOFILE);\n"
    "        all are closed, and the message is gone.\n"
    "    InvalidArgument: `max_bytes` or `max_fds` is out of range.\n"
    "    ClosedHandle: the handle is closed.\n\n"
    "See recvmsg(2), MSG_CMSG_CLOEXEC, and unix(7).";

/* Whether the kernel tells who sent each message. A call of its own costs a sixth of a receive, so
   that only sockets are asked whose options the caller can set by hand. */
static bool
tells_sender(int fd)
{
    int value = 0;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, SO_PASSCRED, &value, &size) == 0 && value != 0;
}

/* A number of bytes or descriptors; -1 for what Python shall look at. */
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
    bool usual = self->plain && size > 0 && max_fds >= 0 && max_fds <= SCM_MAX_FD
                 && ipckit_unix_wait(given[RECEIVE_TIMEOUT].value, &wait_ns);
    int fd = usual ? ipckit_unix_fd(self) : -1;
    if (fd >= 0 && (max_fds > 0 || !self->handed_out || !tells_sender(fd))) {
        bool slow = false;
        PyObject *packet = max_fds == 0 ? receive_plain(self, fd, size, wait_ns, &slow)
                                        : ipckit_unix_receive_fds(self, fd, size, max_fds, &slow);
        if (!slow) {
            return packet;
        }
    }
    return ipckit_unix_pass_over() ? receive_slowly(self, given) : NULL;
}
