/* What the C files of UNIX sockets share. */
#ifndef IPCKIT_UNIX_SOCKET_H
#define IPCKIT_UNIX_SOCKET_H

#include "native.h"

#include <sys/socket.h>

#define SCM_MAX_FD 253 /* the kernel's own limit for one message */
#define STAGE_BYTES 65536

/* Descriptors that are closed with it, unless they are taken. */
typedef struct {
    PyObject_HEAD
    int *numbers;
    Py_ssize_t count;
} descriptors_object;

/* The owner of descriptors, of a type below DescriptorsBase; NULL with an exception set and all of
   them closed. */
HIDDEN PyObject *ipckit_descriptors_new(PyTypeObject *type, const int *numbers, Py_ssize_t count);

/* What a receive gives: `data`, and the rest where there is any. */
typedef struct {
    PyObject_HEAD
    PyObject *data;
    PyObject *fds; /* NULL until somebody asks; a Descriptors then */
    PyObject *credentials;
    PyObject *address;
    char truncated;
    char eof;
} packet_object;

/* A UNIX socket's handle. */
typedef struct {
    PyObject_HEAD
    PyObject *fileno; /* the socket's method; NULL before _attach */
    PyTypeObject *packet_type;
    PyTypeObject *descriptors_type;
    Py_ssize_t last_size; /* of what was received; a guess at the next one's */
    char plain;           /* no sender's address or credentials are wanted with the bytes */
    char handed_out;      /* the caller has the socket inside, and may set its options by hand */
    char stream;
} unix_object;

/* A packet with `data`, a reference to which it takes over, also where it fails. */
HIDDEN PyObject *ipckit_packet_new(PyTypeObject *type, PyObject *data);

/* The descriptor, or -1 with errno EBADF: whoever has the socket may have closed it. */
HIDDEN int ipckit_unix_fd(unix_object *self);

/* Where a message goes before its size is known: memory that is there already, or a new bytes
   object. */
typedef struct {
    char *memory;
    PyObject *bytes; /* NULL where `memory` is the stage */
    Py_ssize_t size;
} unix_buffer;

/* 0, or -1 with MemoryError set. The stage is one for all: only for who keeps the GIL. */
HIDDEN int ipckit_unix_buffer(unix_buffer *buffer, Py_ssize_t size, bool stage);
HIDDEN void ipckit_unix_buffer_drop(unix_buffer *buffer);
/* The first `got` bytes as an object; ends the buffer, also where it fails. */
HIDDEN PyObject *ipckit_unix_buffer_take(unix_buffer *buffer, Py_ssize_t got);

/* Control messages of descriptors and credentials, with the memory for them. */
typedef union {
    struct cmsghdr header;
    char memory[CMSG_SPACE(SCM_MAX_FD * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
} unix_rights;

/* Puts descriptors into the message: 0, or -1 where they are not a list or tuple of up to 253 numbers
   and the long way is due; no exception is set. */
HIDDEN int ipckit_unix_rights(PyObject *fds, unix_rights *rights, struct msghdr *message);

/* An argument by its name; its value is NULL as long as it was not given. */
typedef struct {
    const char *name;
    PyObject *value;
} unix_arg;

/* Takes arguments, of which the first may be positional: 0, or -1 with TypeError set. */
HIDDEN int ipckit_unix_parse(const char *function, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames, unix_arg *wanted, Py_ssize_t count);
/* False for a timeout that Python shall judge; an exception is set. */
HIDDEN bool ipckit_unix_wait(PyObject *timeout, int64_t *wait_ns);

/* Forgets an exception, for Python to raise a better one; false for one to keep, as KeyboardInterrupt. */
HIDDEN bool ipckit_unix_pass_over(void);

/* Raises what a method of the handle makes of an errno; always NULL. */
HIDDEN PyObject *ipckit_unix_explain(unix_object *self, int error, const char *method,
                                     PyObject *context);

extern HIDDEN const char ipckit_unix_send_doc[];
extern HIDDEN const char ipckit_unix_receive_doc[];
extern HIDDEN const char ipckit_unix_recvmsg_doc[];
extern HIDDEN const char ipckit_unix_sendmsg_doc[];
HIDDEN PyObject *ipckit_unix_send(unix_object *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames);
HIDDEN PyObject *ipckit_unix_receive(unix_object *self, PyObject *const *args, Py_ssize_t nargs,
                                     PyObject *kwnames);
/* A packet of bytes and descriptors; NULL with an exception set, or with `slow` where nothing is
   there at the moment. */
HIDDEN PyObject *ipckit_unix_receive_fds(unix_object *self, int fd, long size, long max_fds,
                                         bool *slow);
HIDDEN PyObject *ipckit_unix_recvmsg(unix_object *self, PyObject *arg);
HIDDEN PyObject *ipckit_unix_sendmsg(unix_object *self, PyObject *const *args, Py_ssize_t nargs);

#endif
