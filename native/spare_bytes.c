/* bytes of some hundred to some thousand bytes are too large for Python's own allocator and for the
   cache of malloc's: to make and to destroy one takes longer than to fill it. Who receives them in a
   loop drops one with each that comes, so a few are remembered, and one of which nobody else has a
   reference is filled anew. */
#include "spare_bytes.h"

#include <string.h>

/* Shorter ones, Python's allocator has at hand. */
#define SPARE_LEAST 480

/* A bytes object remembers its hash in the word before its bytes, which the limited API does not
   promise: so whether it is there is found out. */
static Py_hash_t *
hash_of(PyObject *bytes)
{
    return (Py_hash_t *)(void *)(PyBytes_AsString(bytes) - sizeof(Py_hash_t));
}

static bool hash_is_there;

int
ipckit_add_spare_bytes(PyObject *Py_UNUSED(module))
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, 2 * SPARE_LEAST);
    if (bytes == NULL) {
        return -1;
    }
    memset(PyBytes_AsString(bytes), 'x', 2 * SPARE_LEAST);
    bool unknown = *hash_of(bytes) == -1;
    Py_hash_t hash = PyObject_Hash(bytes);
    bool known = *hash_of(bytes) == hash;
    if (unknown && known) {
        PyBytes_AsString(bytes)[0] = 'y';
        *hash_of(bytes) = -1;
        Py_hash_t other = PyObject_Hash(bytes);
        hash_is_there = other != hash && *hash_of(bytes) == other;
    }
    Py_DECREF(bytes);
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *
ipckit_spare_bytes(spare_bytes *spare, const char *data, uint64_t length)
{
    if (length < SPARE_LEAST || !hash_is_there) {
        return PyBytes_FromStringAndSize(data, (Py_ssize_t)length);
    }
    for (int i = 0; i < SPARE_BYTES; i++) {
        PyObject *bytes = spare->objects[i];
        if (spare->lengths[i] == length && Py_REFCNT(bytes) == 1) {
            *hash_of(bytes) = -1;
            memcpy(PyBytes_AsString(bytes), data, length);
            return Py_NewRef(bytes);
        }
    }
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)length);
    if (bytes != NULL) {
        PyObject *old = spare->objects[spare->next];
        spare->objects[spare->next] = Py_NewRef(bytes);
        spare->lengths[spare->next] = length;
        spare->next = (spare->next + 1) % SPARE_BYTES;
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
