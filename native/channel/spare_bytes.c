/* To make bytes and to destroy them takes longer than to fill them, above all from some hundred bytes
   on, which are too large for Python's own allocator and for the cache of malloc's. Who receives them in
   a loop drops one with each that comes, so a few are remembered, and one of which nobody else has a
   reference is filled anew. */
#include "channel/spare_bytes.h"

#include <string.h>

/* There is but one of each that is shorter. */
#define SPARE_LEAST 2

#define MISSES_AT_MOST 8
#define REST 64

/* A bytes object remembers its hash in the word before its bytes, which the limited API does not
   promise: so whether it is there is found out. */
static inline Py_hash_t *
hash_before(char *data)
{
    return (Py_hash_t *)(void *)(data - sizeof(Py_hash_t));
}

static bool hash_is_there;

int
ipckit_add_spare_bytes(PyObject *Py_UNUSED(module))
{
    enum { LENGTH = 64 };
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, LENGTH);
    if (bytes == NULL) {
        return -1;
    }
    char *data = PyBytes_AsString(bytes);
    memset(data, 'x', LENGTH);
    bool unknown = *hash_before(data) == -1;
    Py_hash_t hash = PyObject_Hash(bytes);
    bool known = *hash_before(data) == hash;
    if (unknown && known) {
        data[0] = 'y';
        *hash_before(data) = -1;
        Py_hash_t other = PyObject_Hash(bytes);
        hash_is_there = other != hash && *hash_before(data) == other;
    }
    Py_DECREF(bytes);
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *
ipckit_spare_bytes(spare_bytes *spare, const char *data, uint64_t length)
{
    if (length < SPARE_LEAST || spare->rest > 0 || !hash_is_there) {
        spare->rest -= spare->rest > 0;
        return PyBytes_FromStringAndSize(data, (Py_ssize_t)length);
    }
    for (int i = 0; i < SPARE_BYTES; i++) {
        if (spare->lengths[i] == length && Py_REFCNT(spare->objects[i]) == 1) {
            spare->missed = 0;
            *hash_before(spare->data[i]) = -1;
            memcpy(spare->data[i], data, length);
            return Py_NewRef(spare->objects[i]);
        }
    }
    if (++spare->missed == MISSES_AT_MOST) {
        spare->missed = 0;
        spare->rest = REST;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)length);
    if (bytes != NULL) {
        uint32_t place = spare->next;
        PyObject *old = spare->objects[place];
        spare->objects[place] = Py_NewRef(bytes);
        spare->data[place] = PyBytes_AsString(bytes);
        spare->lengths[place] = length;
        spare->next = (place + 1) % SPARE_BYTES;
        Py_XDECREF(old);
    }
    return bytes;
}

void
ipckit_spare_bytes_clear(spare_bytes *spare)
{
    for (int i = 0; i < SPARE_BYTES; i++) {
        spare->lengths[i] = 0;
        Py_CLEAR(spare->objects[i]);
    }
}
