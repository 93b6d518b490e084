/* Functions for a channel's memory that need no handle: format it, read its type, compute its size. */
#include "channel/channel.h"

PyDoc_STRVAR(format_doc,
             "channel_format(mapping, capacity, item_size, longest, fingerprint, flags, id, type, /)\n"
             "--\n\nFormat the memory of a Mapping, which must be all zeros, as a channel.");

static PyObject *
native_format(PyObject *module, PyObject *args)
{
    native_state *state = PyModule_GetState(module);
    PyObject *mapping;
    unsigned long long capacity, item_size, longest, fingerprint;
    unsigned int flags;
    const char *id, *type;
    Py_ssize_t id_size;
    if (!PyArg_ParseTuple(args, "OKKKKIy#s", &mapping, &capacity, &item_size, &longest,
                          &fingerprint, &flags, &id, &id_size, &type)) {
        return NULL;
    }
    mapping_object *memory = (mapping_object *)mapping;
    if (!Py_IS_TYPE(mapping, state->mapping_type) || memory->closed
        || memory->size < CHANNEL_ARENA_START + 64 * UNIT || id_size != 16) {
        PyErr_SetString(PyExc_ValueError, "channel_format takes an open, large enough Mapping and an id "
                                          "of 16 bytes");
        return NULL;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    ring_format((channel_header *)memory->data, (uint64_t)memory->size, capacity, item_size, longest,
                fingerprint, flags, (uint64_t)now.tv_sec, (const uint8_t *)id, type);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(type_doc, "channel_type(mapping, /)\n--\n\n"
                       "Return the fingerprint and the text of the payload type, or (None, \"\") if the\n"
                       "memory is not a channel.");

static PyObject *
native_type(PyObject *module, PyObject *mapping)
{
    native_state *state = PyModule_GetState(module);
    ring r;
    char text[CHANNEL_TYPE_SIZE];
    mapping_object *memory = (mapping_object *)mapping;
    if (!Py_IS_TYPE(mapping, state->mapping_type) || memory->closed) {
        PyErr_SetString(PyExc_TypeError, "channel_type takes an open Mapping");
        return NULL;
    }
    if (!ring_open(&r, memory->data, (uint64_t)memory->size, -1)) {
        return Py_BuildValue("Os", Py_None, "");
    }
    memcpy(text, r.shared->type, sizeof text);
    text[sizeof text - 1] = '\0';
    PyObject *decoded = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    return Py_BuildValue("KN", (unsigned long long)r.shared->fingerprint, decoded);
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

static PyMethodDef functions[] = {
    {"channel_units", native_units, METH_O, units_doc},
    {"channel_type", native_type, METH_O, type_doc},
    {"channel_format", native_format, METH_VARARGS, format_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_channel_file(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
