/* Control messages: the descriptors and credentials that go with the bytes. Descriptors that come get an
   owner before Python code runs, so that an exception of a signal's handler cannot leak them. */
#include "sockets/socket.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* Room for the control messages that a socket's options add: timestamps (up to 144 bytes),
   credentials, a security label (SELinux has long ones), a pidfd, and those of later kernels. The
   kernel writes the timestamps first and the descriptors after most others, and drops what does not
   fit. So a smaller buffer would lose credentials or descriptors. Every process with the socket can
   change the options at any time, so the room does not depend on them. */
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

/* The contents of the control messages of one receive. */
typedef struct {
    int *fds; /* room for as many as the control buffer can hold */
    Py_ssize_t count;
    bool any; /* whether a control message came */
    bool has_sender;
    struct ucred sender;
} control_data;

/* Adds one control message to `found`. */
static void
read_control(const struct cmsghdr *header, control_data *found)
{
    const unsigned char *data = CMSG_DATA(header);
    size_t size = header->cmsg_len - CMSG_LEN(0);
    found->any = true;
    if (header->cmsg_level != SOL_SOCKET) {
        return;
    }
    if (header->cmsg_type == SCM_RIGHTS) {
        size_t count = size / sizeof(int);
        memcpy(found->fds + found->count, data, count * sizeof(int));
        found->count += (Py_ssize_t)count;
    } else if (header->cmsg_type == SCM_CREDENTIALS && size >= sizeof found->sender) {
        memcpy(&found->sender, data, sizeof found->sender);
        found->has_sender = true;
    } else if (header->cmsg_type == SCM_PIDFD && size >= sizeof(int)) {
        int pidfd; /* SO_PASSPIDFD, which ipckit does not use; negative if the kernel had none */
        memcpy(&pidfd, data, sizeof pidfd);
        if (pidfd >= 0) {
            close(pidfd);
        }
    }
}

/* The sender's address as the socket module returns it: a str for a path, bytes for an abstract name,
   or None. A new reference, or NULL with an exception set. */
static PyObject *
address_of(const struct sockaddr_un *name, socklen_t size)
{
    if (size <= offsetof(struct sockaddr_un, sun_path)) {
        Py_RETURN_NONE;
    }
    size_t length = size - offsetof(struct sockaddr_un, sun_path);
    if (length > sizeof name->sun_path) { /* a path of 108 bytes has no NUL */
        length = sizeof name->sun_path;
    }
    if (name->sun_path[0] == '\0') {
        return PyBytes_FromStringAndSize(name->sun_path, (Py_ssize_t)length);
    }
    length = strnlen(name->sun_path, length);
    return PyUnicode_DecodeFSDefaultAndSize(name->sun_path, (Py_ssize_t)length);
}

/* (pid, uid, gid) of the sender, or None. A new reference, or NULL with an exception set. */
static PyObject *
sender_of(const control_data *found)
{
    if (!found->has_sender) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("iII", (int)found->sender.pid, (unsigned)found->sender.uid,
                         (unsigned)found->sender.gid);
}

/* recvmsg that does not wait. `keep_gil` is for a message that is expected to be small: releasing the
   GIL costs more than the copy. Returns the bytes that came, or -1 with errno. */
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

/* The memory and the result of one recvmsg. The caller owns `data` and `owner`. */
typedef struct {
    _Alignas(struct cmsghdr) char control[CONTROL_MAX];
    int fds[CONTROL_MAX / sizeof(int)];
    struct sockaddr_un name;
    struct iovec vector;
    struct msghdr message;
    control_data control_found;
    PyObject *data;
    PyObject *owner; /* of the descriptors */
} reception;

/* In musl, the macro compares a size with a difference of pointers, which clang warns about. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-compare"
static struct cmsghdr *
next_header(struct msghdr *message, struct cmsghdr *header)
{
    return CMSG_NXTHDR(message, header);
}
#pragma GCC diagnostic pop

/* Gives the bytes and the descriptors an owner: 0, or -1 with an exception set and the descriptors
   closed. Frees the buffer. */
static int
own_received(unix_object *self, reception *got, unix_buffer *buffer, ssize_t size)
{
    got->control_found = (control_data){.fds = got->fds};
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&got->message); header != NULL;
         header = next_header(&got->message, header)) {
        read_control(header, &got->control_found);
    }
    self->last_size = size;
    got->owner = ipckit_descriptors_new(self->descriptors_type, got->control_found.fds, got->control_found.count);
    got->data = ipckit_unix_buffer_take(buffer, size);
    if (got->owner != NULL && got->data != NULL) {
        return 0;
    }
    Py_CLEAR(got->owner);
    Py_CLEAR(got->data);
    return -1;
}

/* Receives up to `size` bytes and their control messages without waiting. 0; or -1 with errno, which is
   EAGAIN if nothing is there; or -1 with errno 0 and an exception set. */
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
        int taken = own_received(self, got, &buffer, came);
        errno = 0;
        return taken;
    }
    ipckit_unix_buffer_drop(&buffer);
    errno = error;
    return -1;
}

/* Which control messages came: 0 for none, CONTROL_CROWDED, otherwise 1. */
static int
control_of(const reception *got)
{
    size_t used = got->message.msg_controllen;
    return !got->control_found.any ? 0 : used + CMSG_SPACE(sizeof(int)) <= sizeof got->control ? 1 : CONTROL_CROWDED;
}

/* The result of _recvmsg; consumes `got`. A new reference, or NULL with an exception set. */
static PyObject *
tuple_of(reception *got)
{
    PyObject *sender = sender_of(&got->control_found);
    PyObject *address = sender == NULL ? NULL : address_of(&got->name, got->message.msg_namelen);
    PyObject *result = NULL;
    if (address != NULL) {
        result = Py_BuildValue("OOOiiO", got->data, got->owner, sender, got->message.msg_flags,
                               control_of(got), address);
    }
    Py_XDECREF(address);
    Py_XDECREF(sender);
    Py_CLEAR(got->owner); /* closes them if the tuple has no reference */
    Py_CLEAR(got->data);
    return result;
}

const char ipckit_unix_recvmsg_doc[] =
    "_recvmsg($self, size, /)\n--\n\n"
    "recvmsg(2) into `size` bytes, without waiting. Returns (data, descriptors, (pid, uid, gid) or\n"
    "None, flags, control messages, address). The fifth is 0 if no control message came,\n"
    "CONTROL_CROWDED if they left no room for a descriptor, otherwise 1.\n"
    "OSError: EAGAIN if nothing is there, otherwise as recvmsg(2).";

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

/* The packet that Python creates after checking what came. Consumes `got`. */
static PyObject *
checked_packet(unix_object *self, reception *got, long size, long max_fds)
{
    PyObject *received = tuple_of(got);
    PyObject *packet = received == NULL ? NULL
                                        : PyObject_CallMethod((PyObject *)self, "_packet_of", "Oll",
                                                              received, size, max_fds);
    Py_XDECREF(received);
    return packet;
}

PyObject *
ipckit_unix_receive_fds(unix_object *self, int fd, long size, long max_fds, bool *in_python)
{
    reception got;
    if (receive(self, fd, size, &got) < 0) {
        int error = errno;
        *in_python = error == EAGAIN;
        return error == 0 || *in_python
                   ? NULL
                   : ipckit_unix_raise(self, error, "_receive_error", Py_None);
    }
    if (got.message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || PyBytes_Size(got.data) == 0
        || got.control_found.count > max_fds || got.control_found.has_sender) {
        return checked_packet(self, &got, size, max_fds);
    }
    PyObject *packet = ipckit_packet_new(self->packet_type, got.data);
    if (packet == NULL) {
        Py_DECREF(got.owner);
        return NULL;
    }
    ((packet_object *)packet)->fds = got.owner;
    return packet;
}
