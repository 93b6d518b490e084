/* What the files of ipckit._native share. */
#ifndef IPCKIT_NATIVE_H
#define IPCKIT_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#define HIDDEN __attribute__((visibility("hidden")))

/* A copy of more bytes takes longer than releasing and taking the GIL. */
#define GIL_FREE_BYTES 16384

typedef struct {
    PyTypeObject *message_type;
    PyTypeObject *mapping_type;
    PyTypeObject *view_type;
    PyTypeObject *semop_type;
    PyTypeObject *channel_type;
    PyTypeObject *topic_type;
    PyTypeObject *subscription_type;
    PyTypeObject *piece_type;
    PyTypeObject *semaphore_set_type;
    PyTypeObject *queue_descriptor_type;
    PyTypeObject *lease_type;
    PyTypeObject *channel_iterator_type;
    PyTypeObject *lease_holder_type;
    PyTypeObject *packet_type;
    PyTypeObject *descriptors_type;
    Py_ssize_t last_mq_size; /* a guess at the next one's */
} native_state;

/* What one interpreter has once, also after a second import of the module: the types whose instances must stay valid
   then, and what functions without a module need. The interpreter's GIL protects it. */
typedef struct {
    PyTypeObject *record_type;
    PyTypeObject *layout_type;
    PyTypeObject *field_type;
    PyTypeObject *message_form_type;
    PyTypeObject *semaphore_type;
    PyTypeObject *array_type, *memmap_type, *recarray_type; /* of numpy; NULL until it is imported */
    PyObject *call_failed;
    PyObject *bad_argument;
    PyObject *layout_name; /* interned, as the names below: calls look them up */
    PyObject *dtype_name, *hasobject_name, *numpy_name;
    void *spare_semaphore; /* see semaphores/semaphore.c */
    char *stage;           /* see sockets/socket.c */
} interpreter_state;

/* interpreter.c: the state of the running interpreter. Never NULL; all members are NULL while the interpreter ends,
   and then no member may be set. Keeps the exception that is set. */
HIDDEN interpreter_state *ipckit_interpreter(void);
/* Creates the state if the interpreter has none: 0, or -1 with an exception set. */
HIDDEN int ipckit_init_interpreter(void);

/* Each file adds its functions and types to the module: 0, or -1 with an exception set. */
HIDDEN int ipckit_add_errors(PyObject *module);
HIDDEN int ipckit_add_layout(PyObject *module);
HIDDEN int ipckit_add_field(PyObject *module);
HIDDEN int ipckit_add_record(PyObject *module);
HIDDEN int ipckit_add_foreign(PyObject *module);
HIDDEN int ipckit_add_typedefs(PyObject *module);
HIDDEN int ipckit_add_message(PyObject *module);
HIDDEN int ipckit_add_message_form(PyObject *module);
HIDDEN int ipckit_add_sysv_msg(PyObject *module);
HIDDEN int ipckit_add_sysv_msgctl(PyObject *module);
HIDDEN int ipckit_add_mq(PyObject *module);
HIDDEN int ipckit_add_mq_descriptor(PyObject *module);
HIDDEN int ipckit_add_mq_notify(PyObject *module);
HIDDEN int ipckit_add_mqueue_fs(PyObject *module);
HIDDEN int ipckit_add_mq_open(PyObject *module);
HIDDEN int ipckit_add_mapping(PyObject *module);
HIDDEN int ipckit_add_view(PyObject *module);
HIDDEN int ipckit_add_mmap(PyObject *module);
HIDDEN int ipckit_add_sysv_shm(PyObject *module);
HIDDEN int ipckit_add_shared_struct(PyObject *module);
HIDDEN int ipckit_add_counter(PyObject *module);
HIDDEN int ipckit_add_sysv_sem(PyObject *module);
HIDDEN int ipckit_add_sysv_semctl(PyObject *module);
HIDDEN int ipckit_add_semaphore(PyObject *module);
HIDDEN int ipckit_add_semaphore_set(PyObject *module);
HIDDEN int ipckit_add_vector_lock(PyObject *module);
HIDDEN int ipckit_add_barrier(PyObject *module);
HIDDEN int ipckit_add_ordered(PyObject *module);
HIDDEN int ipckit_add_posix_sem(PyObject *module);
HIDDEN int ipckit_add_channel_constants(PyObject *module);
HIDDEN int ipckit_add_channel(PyObject *module);
HIDDEN int ipckit_add_topic(PyObject *module);
HIDDEN int ipckit_add_subscription(PyObject *module);
HIDDEN int ipckit_add_channel_lease(PyObject *module);
HIDDEN int ipckit_add_lease_holder(PyObject *module);
HIDDEN int ipckit_add_channel_file(PyObject *module);
HIDDEN int ipckit_add_channel_look(PyObject *module);
HIDDEN int ipckit_add_channel_iterate(PyObject *module);
HIDDEN int ipckit_add_chunks(PyObject *module);
HIDDEN int ipckit_add_parts(PyObject *module);
HIDDEN int ipckit_add_spill(PyObject *module);
HIDDEN int ipckit_add_spill_piece(PyObject *module);
HIDDEN int ipckit_add_unix_descriptors(PyObject *module);
HIDDEN int ipckit_add_unix_io(PyObject *module);
HIDDEN int ipckit_add_unix_packet(PyObject *module);
HIDDEN int ipckit_add_unix_socket(PyObject *module);

/* A new Message; takes no reference to `value`. */
HIDDEN PyObject *ipckit_message_new(PyObject *module, PyObject *value, long mtype, long priority,
                                    bool truncated);

/* A new Struct instance of `type` (a subclass of _native.Record) that owns a copy of the bytes;
   LayoutMismatch if their number is not the size of the struct. */
HIDDEN PyObject *ipckit_record_from_memory(PyTypeObject *type, const char *data, Py_ssize_t size);

/* The value of a received message: an instance of the Struct class `record_type`, or bytes if that
   is NULL or has another size. */
HIDDEN PyObject *ipckit_payload_new(PyObject *record_type, const char *data, Py_ssize_t size);

/* args.c: one argument each; 0, or -1 with TypeError or ValueError set. */
HIDDEN int ipckit_check_nargs(const char *function, Py_ssize_t got, Py_ssize_t wanted);
HIDDEN int ipckit_record_type_arg(PyObject *object, PyObject **record_type);
HIDDEN int ipckit_int_arg(PyObject *object, const char *name, int *result);
HIDDEN int ipckit_long_arg(PyObject *object, const char *name, long min, long max, long *result);
HIDDEN int ipckit_size_arg(PyObject *object, const char *name, Py_ssize_t *result);
/* The bytes of a payload; the caller releases them. */
HIDDEN int ipckit_bytes_arg(PyObject *object, Py_buffer *result);

/* records/foreign.c: 0, or -1 with TypeError set for a numpy array that is more than its elements: one
   of Python objects, or of a subclass of ndarray other than memmap and recarray. */
HIDDEN int ipckit_check_array(PyObject *value);
/* PyObject_GetBuffer, which also refuses what ipckit_check_array refuses, and other buffers of Python
   objects. `flags` is PyBUF_SIMPLE or PyBUF_WRITABLE. */
HIDDEN int ipckit_get_buffer(PyObject *object, Py_buffer *buffer, int flags);
/* Whether a value is a bool, Python's or numpy's. */
HIDDEN bool ipckit_is_bool(PyObject *value);
/* Whether `float(value)`, if it succeeds, is the number that the value is. */
HIDDEN bool ipckit_is_real(PyObject *value);
/* A type's name, after its module's unless that is builtins: a new reference, or NULL. */
HIDDEN PyObject *ipckit_type_text(PyTypeObject *type);

/* A buffer of an exporter, writable if it can be: 0, or -1 with an exception set. */
HIDDEN int ipckit_hold_buffer(PyObject *exporter, Py_buffer *buffer);

/* How long a call may wait, in nanoseconds: WAIT_FOREVER, 0 (not at all), or more. */
#define WAIT_FOREVER INT64_C(-1)
HIDDEN int ipckit_wait_arg(PyObject *object, int64_t *wait_ns);

/* The token of this process; see ipckit/_core/processes.py. A forked child sets its own. */
HIDDEN uint64_t ipckit_own_token(void);

/* errors.c: takes the exception that is set and clears it. An instance, owned by the caller. */
HIDDEN PyObject *ipckit_take_exception(void);
/* Sets an exception and takes it from the caller; leaves things as they are for NULL; always NULL. */
HIDDEN PyObject *ipckit_raise(PyObject *exception);
/* OSError from errno; always NULL. */
HIDDEN PyObject *ipckit_oserror(void);
/* The same as the subclass CallFailed, by which the caller in Python tells a failed call from what a
   signal's handler raised during the call. It has no subclass for an errno: a caller that looks for
   FileNotFoundError and the like takes `ipckit_oserror`. */
HIDDEN PyObject *ipckit_call_failed(void);
/* BadArgument, the subclass of ValueError that args.c raises: borrowed. */
HIDDEN PyObject *ipckit_bad_argument(void);
/* Raises InvalidArgument, Corrupt or LayoutMismatch of ipckit.errors. Steals `message`, which may be
   NULL with an exception set; always -1. */
HIDDEN int ipckit_raise_invalid(PyObject *message);
HIDDEN int ipckit_raise_corrupt(PyObject *message);
HIDDEN int ipckit_raise_mismatch(PyObject *message, const char *raw, Py_ssize_t size);
/* Turns a ValueError that is set into InvalidArgument, and leaves any other; always NULL. */
HIDDEN PyObject *ipckit_as_invalid_argument(void);

#endif
