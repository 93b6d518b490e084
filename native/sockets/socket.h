/* Declarations that the C files of UNIX sockets share. */
#ifndef IPCKIT_UNIX_SOCKET_H
#define IPCKIT_UNIX_SOCKET_H

#include "native.h"

#include <sys/socket.h>

#define SCM_MAX_FD 253 /* the kernel's limit for one message, which no header of libc has */
#define STAGE_BYTES 65536
#define CONTROL_CROWDED 2 /* control messages left no room for a descriptor */

/* A list of descriptors, which closes them when it is deallocated. */
typedef struct {
    PyObject_HEAD
    int *numbers;
    Py_ssize_t count;
} descriptors_object;

/* A new list of `count` descriptors, of a subtype of DescriptorsBase. On failure closes them all and
   returns NULL with an exception set. */
HIDDEN PyObject *ipckit_descriptors_new(PyTypeObject *type, const int *numbers, Py_ssize_t count);

/* The result of a receive. */
typedef struct {
    PyObject_HEAD
    PyObject *data;
    PyObject *fds;         /* a Descriptors; NULL until it is read, if no descriptor came */
    PyObject *credentials; /* NULL for None */
    PyObject *address;     /* NULL for None */
    char truncated;
    char eof;
} packet_object;

/* A UNIX socket's handle. */
typedef struct {
    PyObject_HEAD
    PyObject *fileno; /* the socket's method; NULL before _attach */
    PyTypeObject *packet_type;
    PyTypeObject *descriptors_type;
    Py_ssize_t last_size; /* of the last message received; an estimate for the next */
    char bytes_only;      /* a packet needs neither the sender's address nor its credentials */
    char exposed;         /* the caller has the socket inside, and may set its options */
    char stream;          /* of type SOCK_STREAM */
} unix_object;

/* A new packet with `data`. Steals the reference to `data`, also on failure; if it is NULL, an
   exception is set. NULL with an exception set on failure. */
HIDDEN PyObject *ipckit_packet_new(PyTypeObject *type, PyObject *data);

/* The descriptor, or -1 with errno EBADF if the socket is closed. No exception is set. */
HIDDEN int ipckit_unix_fd(unix_object *self);

/* Memory for a message whose size is not known yet: the stage of the interpreter, or a new bytes
   object. */
typedef struct {
    char *memory;
    PyObject *bytes; /* NULL if `memory` is the stage */
    Py_ssize_t size;
} unix_buffer;

/* Initializes a buffer: 0, or -1 with MemoryError set. There is one stage for all threads of an
   interpreter: only a caller that keeps the GIL may use it. */
HIDDEN int ipckit_unix_buffer(unix_buffer *buffer, Py_ssize_t size, bool stage);
/* Frees a buffer. */
HIDDEN void ipckit_unix_buffer_drop(unix_buffer *buffer);
/* The first `got` bytes as a bytes object, or NULL with an exception set. Frees the buffer, also on
   failure. */
HIDDEN PyObject *ipckit_unix_buffer_take(unix_buffer *buffer, Py_ssize_t got);

/* Memory for the control messages of a send: descriptors and credentials. */
typedef union {
    struct cmsghdr header;
    char memory[CMSG_SPACE(SCM_MAX_FD * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
} unix_rights;

/* Adds descriptors to `message`, which refers to `rights` then. 0; or -1 without an exception if they
   are not a list or tuple of up to 253 ints, which Python has to check. */
HIDDEN int ipckit_unix_rights(PyObject *fds, unix_rights *rights, struct msghdr *message);

/* An argument: its name, and a borrowed reference to its value, or NULL if it was not given. */
typedef struct {
    const char *name;
    PyObject *value;
} unix_arg;

/* Parses arguments, of which only the first may be positional: 0, or -1 with TypeError set. */
HIDDEN int ipckit_unix_parse(const char *function, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames, unix_arg *wanted, Py_ssize_t count);
/* Parses a timeout, or NULL for None. False with an exception set if it is invalid. */
HIDDEN bool ipckit_unix_wait(PyObject *timeout, int64_t *wait_ns);

/* Clears the exception that is set, if any, because Python repeats the call and raises one with more
   facts. False if it is not a subclass of Exception, such as KeyboardInterrupt, which stays set. */
HIDDEN bool ipckit_unix_clear_exception(void);

/* Raises the exception that a method of the handle returns for an OSError with errno `error` and
   `context`; always NULL. */
HIDDEN PyObject *ipckit_unix_raise(unix_object *self, int error, const char *method,
                                     PyObject *context);

/* The methods of UnixSocketBase; their docstrings say what they do. */
extern HIDDEN const char ipckit_unix_send_doc[];
extern HIDDEN const char ipckit_unix_receive_doc[];
extern HIDDEN const char ipckit_unix_recvmsg_doc[];
extern HIDDEN const char ipckit_unix_sendmsg_doc[];
HIDDEN PyObject *ipckit_unix_send(unix_object *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames);
HIDDEN PyObject *ipckit_unix_receive(unix_object *self, PyObject *const *args, Py_ssize_t nargs,
                                     PyObject *kwnames);
/* Receives bytes and descriptors without waiting. A packet, or NULL with an exception set; or NULL
   with `in_python` set if nothing is there, and Python has to wait. */
HIDDEN PyObject *ipckit_unix_receive_fds(unix_object *self, int fd, long size, long max_fds,
                                         bool *in_python);
HIDDEN PyObject *ipckit_unix_recvmsg(unix_object *self, PyObject *arg);
HIDDEN PyObject *ipckit_unix_sendmsg(unix_object *self, PyObject *const *args, Py_ssize_t nargs);

#endif
