/* Descriptors and credentials beside the bytes of a UNIX socket. Descriptors that came have an owner
   before Python code runs again: a signal's handler that raises can't make them leak. */
#include "sockets/socket.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* Room for the control messages that the options of a socket bring beside descriptors: timestamps
   (144 bytes at most), credentials, a security label (SELinux has long ones), a pidfd, and what later
   kernels add. The kernel writes the timestamps first and the descriptors after most others. It cuts
   off what finds no room, so that a smaller buffer would lose credentials or descriptors. The
   options belong to every process that has the socket, and can change at any time: the room does
   not depend on them. */
#define OTHERS_ROOM 4096
#define CONTROL_MAX (OTHERS_ROOM + CMSG_SPACE(SCM_MAX_FD * sizeof(int)))
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

int
ipckit_unix_rights(PyObject *fds, unix_rights *rights, struct msghdr *message)
{
    bool list = PyList_CheckExact(fds);
    if (!list && !PyTuple_CheckExact(fds)) {
        return -1;
    }
    Py_ssize_t count = list ? PyList_Size(fds) : PyTuple_Size(fds);
    if (count == 0 || count > SCM_MAX_FD) {
        return count == 0 ? 0 : -1;
    }
    memset(&rights->header, 0, sizeof rights->header);
    rights->header.cmsg_level = SOL_SOCKET;
    rights->header.cmsg_type = SCM_RIGHTS;
    rights->header.cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    int *numbers = (int *)CMSG_DATA(&rights->header);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = list ? PyList_GetItem(fds, i) : PyTuple_GetItem(fds, i);
        int overflow;
        long number = PyLong_CheckExact(item) ? PyLong_AsLongAndOverflow(item, &overflow) : -1;
        if (number < 0 || number > INT_MAX) {
            return -1;
        }
        numbers[i] = (int)number;
    }
    message->msg_control = rights->memory;
    message->msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
    return 0;
}

/* What came beside the bytes. */
typedef struct {
    int *fds; /* room for as many as the control buffer can hold */
    Py_ssize_t count;
    bool any;
    bool has_sender;
    struct ucred sender;
} control_seen;

static void
look_at(const struct cmsghdr *header, control_seen *seen)
{
    const unsigned char *data = CMSG_DATA(header);
    size_t size = header->cmsg_len - CMSG_LEN(0);
    seen->any = true;
    if (header->cmsg_level != SOL_SOCKET) {
        return;
    }
    if (header->cmsg_type == SCM_RIGHTS) {
        size_t count = size / sizeof(int);
        memcpy(seen->fds + seen->count, data, count * sizeof(int));
        seen->count += (Py_ssize_t)count;
    } else if (header->cmsg_type == SCM_CREDENTIALS && size >= sizeof seen->sender) {
        memcpy(&seen->sender, data, sizeof seen->sender);
        seen->has_sender = true;
    } else if (header->cmsg_type == SCM_PIDFD && size >= sizeof(int)) {
        int pidfd; /* nobody asked ipckit for it; below 0 where there was none to be had */
        memcpy(&pidfd, data, sizeof pidfd);
        if (pidfd >= 0) {
            close(pidfd);
        }
    }
}

/* The sender's address as the socket module has it: a path, or the bytes of an abstract name. */
static PyObject *
address_of(const struct sockaddr_un *name, socklen_t size)
{
    if (size <= offsetof(struct sockaddr_un, sun_path)) {
        Py_RETURN_NONE;
    }
    size_t length = size - offsetof(struct sockaddr_un, sun_path);
    if (length > sizeof name->sun_path) { /* a path of 108 bytes, whose NUL had no room */
        length = sizeof name->sun_path;
    }
    if (name->sun_path[0] == '\0') {
        return PyBytes_FromStringAndSize(name->sun_path, (Py_ssize_t)length);
    }
    length = strnlen(name->sun_path, length);
    return PyUnicode_DecodeFSDefaultAndSize(name->sun_path, (Py_ssize_t)length);
}

static PyObject *
sender_of(const control_seen *seen)
{
    if (!seen->has_sender) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("iII", (int)seen->sender.pid, (unsigned)seen->sender.uid,
                         (unsigned)seen->sender.gid);
}

/* recvmsg that does not sleep; the GIL is kept where what comes is small, as far as can be told. */
static ssize_t
receive_now(int fd, struct msghdr *message, bool keep_gil)
{
    int flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
    if (keep_gil) {
        return recvmsg(fd, message, flags);
    }
    ssize_t got;
    int error;
    Py_BEGIN_ALLOW_THREADS
    got = recvmsg(fd, message, flags);
    error = errno;
    Py_END_ALLOW_THREADS
    errno = error;
    return got;
}

/* One recvmsg, and what it gave: `data` and `owner` are the caller's. */
typedef struct {
    _Alignas(struct cmsghdr) char control[CONTROL_MAX];
    int fds[CONTROL_MAX / sizeof(int)];
    struct sockaddr_un name;
    struct iovec vector;
    struct msghdr message;
    control_seen seen;
    PyObject *data;
    PyObject *owner;
} reception;

/* Owns what came, whatever follows: 0, or -1 with an exception set and all closed. */
static int
take_over(unix_object *self, reception *got, unix_buffer *buffer, ssize_t size)
{
    got->seen = (control_seen){.fds = got->fds};
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&got->message); header != NULL;
         header = CMSG_NXTHDR(&got->message, header)) {
        look_at(header, &got->seen);
    }
    self->last_size = size;
    got->owner = ipckit_descriptors_new(self->descriptors_type, got->seen.fds, got->seen.count);
    got->data = ipckit_unix_buffer_take(buffer, size);
    if (got->owner != NULL && got->data != NULL) {
        return 0;
    }
    Py_CLEAR(got->owner);
    Py_CLEAR(got->data);
    return -1;
}

/* Receives up to `size` bytes and all that comes beside them; 0, or -1 with errno, EAGAIN where
   nothing is there, or with an exception set and errno 0. */
static int
receive(unix_object *self, int fd, long size, reception *got)
{
    bool staged = size <= STAGE_BYTES && self->last_size <= GIL_FREE_BYTES;
    unix_buffer buffer;
    if (ipckit_unix_buffer(&buffer, size, staged) < 0) {
        errno = 0;
        return -1;
    }
    got->vector = (struct iovec){.iov_base = buffer.memory, .iov_len = (size_t)size};
    got->message = (struct msghdr){.msg_name = &got->name,
                                   .msg_namelen = sizeof got->name,
                                   .msg_iov = &got->vector,
                                   .msg_iovlen = 1,
                                   .msg_control = got->control,
                                   .msg_controllen = sizeof got->control};
    ssize_t came = receive_now(fd, &got->message, staged);
    int error = errno == EINTR ? EAGAIN : errno;
    if (came >= 0) {
        int taken = take_over(self, got, &buffer, came);
        errno = 0;
        return taken;
    }
    ipckit_unix_buffer_drop(&buffer);
    errno = error;
    return -1;
}

/* Which control messages came: 0 for none, 1 for some, 2 if they left no room for a descriptor. */
static int
control_of(const reception *got)
{
    size_t used = got->message.msg_controllen;
    return !got->seen.any ? 0 : used + CMSG_SPACE(sizeof(int)) <= sizeof got->control ? 1 : 2;
}

/* All that came, for Python; ends it. */
static PyObject *
tuple_of(reception *got)
{
    PyObject *sender = sender_of(&got->seen);
    PyObject *address = sender == NULL ? NULL : address_of(&got->name, got->message.msg_namelen);
    PyObject *result = NULL;
    if (address != NULL) {
        result = Py_BuildValue("OOOiiO", got->data, got->owner, sender, got->message.msg_flags,
                               control_of(got), address);
    }
    Py_XDECREF(address);
    Py_XDECREF(sender);
    Py_CLEAR(got->owner); /* which closes them, if it is the last */
    Py_CLEAR(got->data);
    return result;
}

const char ipckit_unix_recvmsg_doc[] =
    "_recvmsg($self, size, /)\n--\n\n"
    "recvmsg(2) into `size` bytes, without waiting, as (data, owner of the descriptors, (pid, uid,\n"
    "gid) or None, flags, control messages, address). The fifth is 0 if no control message came, 1\n"
    "if some did, and 2 if they left no room for a descriptor.\n"
    "OSError: EAGAIN where nothing is there, else as the kernel gives it.";

PyObject *
ipckit_unix_recvmsg(unix_object *self, PyObject *arg)
{
    long size;
    if (ipckit_long_arg(arg, "size", 0, INT_MAX, &size) < 0) {
        return NULL;
    }
    int fd = ipckit_unix_fd(self);
    reception got;
    if (fd < 0 || receive(self, fd, size, &got) < 0) {
        return errno == 0 ? NULL : ipckit_oserror();
    }
    return tuple_of(&got);
}

PyObject *
ipckit_unix_receive_fds(unix_object *self, int fd, long size, long max_fds, bool *slow)
{
    reception got;
    if (receive(self, fd, size, &got) < 0) {
        int error = errno;
        *slow = error == EAGAIN;
        return error == 0 || *slow
                   ? NULL
                   : ipckit_unix_explain(self, error, "_explain_receive", Py_None);
    }
    if (got.message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || PyBytes_Size(got.data) == 0
        || got.seen.count > max_fds || got.seen.has_sender) {
        PyObject *all = tuple_of(&got);
        PyObject *packet = all == NULL ? NULL
                                       : PyObject_CallMethod((PyObject *)self, "_sorted", "Oll",
                                                             all, size, max_fds);
        Py_XDECREF(all);
        return packet;
    }
    PyObject *packet = ipckit_packet_new(self->packet_type, got.data);
    if (packet == NULL) {
        Py_DECREF(got.owner);
        return NULL;
    }
    ((packet_object *)packet)->fds = got.owner;
    return packet;
}
