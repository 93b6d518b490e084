/* Layout: the size, the fields and the default values of one Struct class. */
#include "records/record.h"

#include <structmember.h>

Layout *
ipckit_layout_of(PyTypeObject *type)
{
    interpreter_state *state = ipckit_interpreter();
    PyObject *layout = NULL;
    if (state->layout_name != NULL) { /* NULL while the interpreter ends */
        layout = PyObject_GetAttr((PyObject *)type, state->layout_name);
    }
    if (layout != NULL && Py_IS_TYPE(layout, state->layout_type)) {
        return (Layout *)layout;
    }
    if (layout == NULL && PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return NULL;
    }
    PyErr_Clear();
    Py_XDECREF(layout);
    PyErr_Format(PyExc_TypeError, "%R has no fields; declare some in a subclass",
                 (PyObject *)type);
    return NULL;
}

/* Checks that all fields are inside `size` bytes: 0, or -1 with an exception set. */
static int
check_fields(PyObject *fields, Py_ssize_t size)
{
    PyTypeObject *field_type = ipckit_interpreter()->field_type;
    for (Py_ssize_t i = 0; i < PyTuple_Size(fields); i++) {
        Field *field = (Field *)PyTuple_GetItem(fields, i);
        if (!Py_IS_TYPE((PyObject *)field, field_type)) {
            PyErr_SetString(PyExc_TypeError, "fields must be a tuple of Field");
            return -1;
        }
        if (field->offset > size - field->size) {
            PyErr_Format(PyExc_ValueError, "field %R reaches beyond the %zd bytes of the layout",
                         field->name, size);
            return -1;
        }
    }
    return 0;
}

/* Checks the fields' modes. Returns how many fields the constructor takes by position, or -1 with an
   exception set. */
static Py_ssize_t
check_modes(PyObject *modes, PyObject *fields)
{
    Py_ssize_t positional = PyTuple_Size(fields);
    if (modes == Py_None) {
        return positional;
    }
    if (!PyBytes_Check(modes) || PyBytes_Size(modes) != PyTuple_Size(fields)) {
        PyErr_SetString(PyExc_TypeError, "modes must be None, or bytes with one mode for each field");
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyBytes_Size(modes); i++) {
        if ((unsigned char)PyBytes_AsString(modes)[i] > MODE_KEYWORD_ONLY) {
            PyErr_SetString(PyExc_ValueError, "a mode is 0, 1 or 2");
            return -1;
        }
        positional -= PyBytes_AsString(modes)[i] == MODE_KEYWORD_ONLY;
    }
    return positional;
}

static PyObject *
layout_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"size", "fields", "defaults", "modes", "measure", "minimum", NULL};
    Py_ssize_t size;
    Py_ssize_t minimum = -1;
    PyObject *fields;
    PyObject *defaults;
    PyObject *modes = Py_None;
    PyObject *measure = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nO!O!|OOn:Layout", names, &size, &PyTuple_Type,
                                     &fields, &PyDict_Type, &defaults, &modes, &measure, &minimum)) {
        return NULL;
    }
    if (measure == Py_None) {
        minimum = size;
    }
    if (size < 0 || size > RECORD_SIZE_MAX || minimum < 0 || minimum > size) {
        PyErr_SetString(PyExc_ValueError, "size or minimum is out of range");
        return NULL;
    }
    Py_ssize_t positional = check_modes(modes, fields);
    if (positional < 0 || check_fields(fields, minimum) < 0) {
        return NULL;
    }
    Layout *self = (Layout *)PyType_GenericAlloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->size = size;
    self->minimum = minimum;
    self->fields = Py_NewRef(fields);
    self->defaults = Py_NewRef(defaults);
    self->modes = Py_NewRef(modes);
    self->positional = positional;
    self->measure = Py_NewRef(measure);
    return (PyObject *)self;
}

static void
layout_dealloc(PyObject *op)
{
    Layout *self = (Layout *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_XDECREF(self->fields);
    Py_XDECREF(self->defaults);
    Py_XDECREF(self->modes);
    Py_XDECREF(self->measure);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

/* Layout, Field and Record have no tp_clear: they are immutable, as a tuple is. So a cycle through
   them always contains another object, which can be cleared. */
static int
layout_traverse(PyObject *op, visitproc visit, void *arg)
{
    Layout *self = (Layout *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->fields);
    Py_VISIT(self->defaults);
    Py_VISIT(self->measure);
    return 0;
}

static PyMemberDef layout_members[] = {
    {"size", T_PYSSIZET, offsetof(Layout, size), READONLY, "bytes of one record"},
    {"minimum", T_PYSSIZET, offsetof(Layout, minimum), READONLY, "bytes of the shortest record"},
    {"fields", T_OBJECT, offsetof(Layout, fields), READONLY, "the fields, in order"},
    {"defaults", T_OBJECT, offsetof(Layout, defaults), READONLY, "the fields' defaults by name"},
    {"modes", T_OBJECT, offsetof(Layout, modes), READONLY, "how the constructor treats each field"},
    {"measure", T_OBJECT, offsetof(Layout, measure), READONLY, "the size of a new record, or None"},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(layout_doc,
             "Layout(size, fields, defaults, modes=None, measure=None, minimum=-1)\n--\n\n"
             "What the constructor and the buffers of one Struct class need to know.\n\n"
             "Args:\n"
             "    size: bytes of the struct, with its padding.\n"
             "    fields: the descriptor of each field, in order.\n"
             "    defaults: the default of each field that has one, by name.\n"
             "    modes: a byte for each field: 0 required; 1 optional, if a field that shares its bytes\n"
             "        has a value; 2 as 1, and by name only.\n"
             "        None if all fields are required.\n"
             "    measure: called with the constructor's args and kwargs; returns the bytes of the\n"
             "        new record. None if all records have `size` bytes.\n"
             "    minimum: bytes of the shortest record. Ignored if `measure` is None.");

static PyType_Slot layout_slots[] = {
    {Py_tp_doc, (void *)layout_doc},
    {Py_tp_new, layout_new},
    {Py_tp_dealloc, layout_dealloc},
    {Py_tp_traverse, layout_traverse},
    {Py_tp_members, layout_members},
    {0, NULL},
};

static PyType_Spec layout_spec = {
    .name = "ipckit._native.Layout",
    .basicsize = sizeof(Layout),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = layout_slots,
};

int
ipckit_add_layout(PyObject *module)
{
    interpreter_state *state = ipckit_interpreter();
    if (state->layout_name == NULL) {
        state->layout_name = PyUnicode_InternFromString("__layout__");
    }
    if (state->layout_name == NULL) {
        return -1;
    }
    if (state->layout_type == NULL) {
        state->layout_type = (PyTypeObject *)PyType_FromSpec(&layout_spec);
    }
    return state->layout_type == NULL ? -1 : PyModule_AddType(module, state->layout_type);
}
