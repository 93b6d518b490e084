/* Functions for a channel's memory that need no handle: format it, read its type, compute its size. */
#include "channel/channel.h"

PyDoc_STRVAR(format_doc,
             "channel_format(mapping, shape, fingerprint, flags, id, type, /)\n--\n\n"
             "Format the memory of a Mapping, which must be all zeros, as a channel. `shape` is (units,\n"
             "granules, granule, capacity, item_size, longest).");

static PyObject *
native_format(PyObject *module, PyObject *args)
{
    native_state *state = PyModule_GetState(module);
    PyObject *mapping;
    unsigned long long fingerprint, sizes[6];
    unsigned int flags;
    const char *id, *type;
    Py_ssize_t id_size;
    if (!PyArg_ParseTuple(args, "O(KKKKKK)KIy#s", &mapping, &sizes[0], &sizes[1], &sizes[2], &sizes[3],
                          &sizes[4], &sizes[5], &fingerprint, &flags, &id, &id_size, &type)) {
        return NULL;
    }
    ring_shape shape = {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]};
    mapping_object *memory = (mapping_object *)mapping;
    if (!Py_IS_TYPE(mapping, state->mapping_type) || memory->closed || id_size != 16
        || !ring_shape_is_valid(&shape, (uint64_t)memory->size)) {
        PyErr_SetString(PyExc_ValueError, "channel_format takes an open Mapping, the shape of a channel "
                                          "that fits into it, and an id of 16 bytes");
        return NULL;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    ring_identity identity = {
        .magic = CHANNEL_MAGIC, .version = CHANNEL_VERSION, .flags = flags, .fingerprint = fingerprint,
        .created = (uint64_t)now.tv_sec, .id = (const uint8_t *)id, .type = type};
    ring_format((channel_header *)memory->data, (uint64_t)memory->size, &shape, &identity);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(type_doc, "channel_type(mapping, /)\n--\n\n"
                       "Return the fingerprint and the text of the payload type, or (None, \"\") if the\n"
                       "memory is not a channel.");

PyObject *
ipckit_type_of_memory(PyObject *module, PyObject *mapping, bool topic)
{
    native_state *state = PyModule_GetState(module);
    ring r;
    char text[CHANNEL_TYPE_SIZE];
    mapping_object *memory = (mapping_object *)mapping;
    if (!Py_IS_TYPE(mapping, state->mapping_type) || memory->closed) {
        PyErr_SetString(PyExc_TypeError, "expected an open Mapping");
        return NULL;
    }
    if (!ring_open(&r, memory->data, (uint64_t)memory->size, -1, topic)) {
        return Py_BuildValue("Os", Py_None, "");
    }
    memcpy(text, r.shared->type, sizeof text);
    text[sizeof text - 1] = '\0';
    PyObject *decoded = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    return Py_BuildValue("KN", (unsigned long long)r.shared->fingerprint, decoded);
}

static PyObject *
native_type(PyObject *module, PyObject *mapping)
{
    return ipckit_type_of_memory(module, mapping, false);
}

PyDoc_STRVAR(units_doc, "channel_units(length, /)\n--\n\n"
                        "Return the units of memory that a message of `length` bytes takes.");

static PyObject *
native_units(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long length;
    if (ipckit_long_arg(arg, "length", 0, (long)LENGTH_MAX, &length) < 0) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(units_for((uint64_t)length));
}

PyDoc_STRVAR(bytes_doc, "channel_bytes(units, granules, granule, /)\n--\n\n"
                        "Return the bytes of a channel with an arena and a pool of these sizes.");

static PyObject *
native_bytes(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long units, granules, granule;
    if (!PyArg_ParseTuple(args, "KKK", &units, &granules, &granule)) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(channel_bytes(units, granules, granule));
}

static PyMethodDef functions[] = {
    {"channel_units", native_units, METH_O, units_doc},
    {"channel_bytes", native_bytes, METH_VARARGS, bytes_doc},
    {"channel_type", native_type, METH_O, type_doc},
    {"channel_format", native_format, METH_VARARGS, format_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_channel_file(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
