/* Record's constructor: it sets each field to an argument or to its default. */
#include "records/record.h"

/* The arguments of a constructor, and what was used of them. */
typedef struct {
    Layout *layout;
    PyObject *args;
    PyObject *kwargs;      /* or NULL */
    Py_ssize_t positional; /* how many of `args` were used */
    Py_ssize_t by_name;    /* how many of `kwargs` were used */
    bool *given;           /* for each field whether it has an argument; NULL if no fields share bytes */
} call_arguments;

static field_mode
mode_of(const Layout *layout, Py_ssize_t i)
{
    return layout->modes == Py_None ? MODE_REQUIRED : (field_mode)PyBytes_AsString(layout->modes)[i];
}

static Field *
field_at(const Layout *layout, Py_ssize_t i)
{
    return (Field *)PyTuple_GetItem(layout->fields, i);
}

/* A new reference to the value of field `i`. NULL with an exception set, or NULL without one if the
   call has no value for the field. */
static PyObject *
initial_value(call_arguments *call, Py_ssize_t i)
{
    if (mode_of(call->layout, i) != MODE_KEYWORD_ONLY
        && call->positional < PyTuple_Size(call->args)) {
        return Py_NewRef(PyTuple_GetItem(call->args, call->positional++));
    }
    PyObject *name = field_at(call->layout, i)->name;
    PyObject *value = call->kwargs == NULL ? NULL : PyDict_GetItemWithError(call->kwargs, name);
    if (value != NULL) {
        call->by_name++;
    } else if (!PyErr_Occurred()) {
        value = PyDict_GetItemWithError(call->layout->defaults, name);
    }
    return Py_XNewRef(value);
}

/* Whether a field of this name could have been given by name: 1, 0, or -1 with an exception set. */
static int
takes_name(const call_arguments *call, PyObject *name)
{
    Py_ssize_t position = 0;
    for (Py_ssize_t i = 0; i < PyTuple_Size(call->layout->fields); i++) {
        if (mode_of(call->layout, i) != MODE_KEYWORD_ONLY
            && position++ < PyTuple_Size(call->args)) {
            continue;
        }
        int same = PyObject_RichCompareBool(field_at(call->layout, i)->name, name, Py_EQ);
        if (same != 0) {
            return same;
        }
    }
    return 0;
}

/* Sets TypeError: `format` is for the name of the class of `self` and for two objects. Returns -1. */
static int
refuse(PyObject *self, const char *format, PyObject *one, PyObject *two)
{
    PyObject *name = PyType_GetName(Py_TYPE(self));
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError, format, name, one, two);
        Py_DECREF(name);
    }
    return -1;
}

/* Sets TypeError for a field that has neither an argument nor a default. Returns -1. */
static int
refuse_missing(PyObject *self, const Field *field)
{
    return refuse(self, "%U needs a value for field %R", field->name, NULL);
}

/* Sets TypeError for the keyword argument that no field used. Returns -1. */
static int
refuse_argument(PyObject *self, const call_arguments *call)
{
    PyObject *name;
    PyObject *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(call->kwargs, &position, &name, &value)) {
        int known = takes_name(call, name);
        if (known < 0) {
            return -1;
        }
        if (!known) {
            return refuse(self, "%U got %R, which is not a field or has two values", name, NULL);
        }
    }
    PyErr_SetString(PyExc_TypeError, "the keyword arguments changed during the call");
    return -1;
}

static Py_ssize_t
first_bit_of(const Field *field)
{
    return 8 * field->offset + field->first_bit;
}

/* The bit after the last one of a field. A flexible array member has no size, and no end. */
static Py_ssize_t
end_bit_of(const Field *field)
{
    if (field->width > 0) {
        return first_bit_of(field) + field->width;
    }
    return field->size == 0 ? PY_SSIZE_T_MAX : 8 * (field->offset + field->size);
}

/* Whether two fields share bits. */
static bool
overlap(const Field *one, const Field *other)
{
    return first_bit_of(other) < end_bit_of(one) && first_bit_of(one) < end_bit_of(other);
}

/* Notes that field `i` has an argument: 0, or -1 with TypeError set if it shares bits with an earlier one
   that has. */
static int
note_given(call_arguments *call, PyObject *self, Py_ssize_t i)
{
    const Field *field = field_at(call->layout, i);
    for (Py_ssize_t j = 0; j < i; j++) {
        const Field *other = field_at(call->layout, j);
        if (call->given[j] && overlap(field, other)) {
            return refuse(self, "%U got %R and %R, which share their bytes; give one of them",
                          other->name, field->name);
        }
    }
    call->given[i] = true;
    return 0;
}

/* Whether field `i`, which has no argument, shares bits with one that has. */
static bool
is_shared(const call_arguments *call, Py_ssize_t i)
{
    const Field *field = field_at(call->layout, i);
    for (Py_ssize_t j = 0; j < PyTuple_Size(call->layout->fields); j++) {
        if (call->given[j] && overlap(field, field_at(call->layout, j))) {
            return true;
        }
    }
    return false;
}

/* Checks that no union was left without a value: 0, or -1 with TypeError set. */
static int
check_unions(const call_arguments *call, PyObject *self)
{
    for (Py_ssize_t i = 0; i < PyTuple_Size(call->layout->fields); i++) {
        if (mode_of(call->layout, i) == MODE_OPTIONAL && !call->given[i] && !is_shared(call, i)) {
            return refuse(self, "%U needs a value for field %R, or for one that shares its bytes",
                          field_at(call->layout, i)->name, NULL);
        }
    }
    return 0;
}

/* Sets field `i` to its argument or default: 0, or -1 with an exception set. */
static int
set_one(call_arguments *call, PyObject *self, Py_ssize_t i)
{
    Field *field = field_at(call->layout, i);
    PyObject *value = initial_value(call, i);
    if (value == NULL) {
        if (PyErr_Occurred()) {
            return -1;
        }
        if (mode_of(call->layout, i) != MODE_REQUIRED) {
            return 0;
        }
        return refuse_missing(self, field);
    }
    int result = call->given == NULL ? 0 : note_given(call, self, i);
    if (result == 0) {
        result = ipckit_field_set(field, self, value);
    }
    Py_DECREF(value);
    return result;
}

static int
set_all(call_arguments *call, PyObject *self)
{
    for (Py_ssize_t i = 0; i < PyTuple_Size(call->layout->fields); i++) {
        if (set_one(call, self, i) < 0) {
            return -1;
        }
    }
    if (call->kwargs != NULL && call->by_name != PyDict_Size(call->kwargs)) {
        return refuse_argument(self, call);
    }
    return call->given == NULL ? 0 : check_unions(call, self);
}

int
ipckit_record_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    Layout *layout = ((Record *)op)->layout;
    call_arguments call = {.layout = layout, .args = args, .kwargs = kwargs};
    Py_ssize_t most = layout->positional;
    if (PyTuple_Size(args) > most) {
        PyObject *name = PyType_GetName(Py_TYPE(op));
        if (name != NULL) {
            PyErr_Format(PyExc_TypeError, "%U takes at most %zd by position, not %zd", name, most,
                         PyTuple_Size(args));
            Py_DECREF(name);
        }
        return -1;
    }
    if (layout->modes != Py_None) {
        call.given = PyMem_Calloc((size_t)PyTuple_Size(layout->fields), sizeof *call.given);
        if (call.given == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    int result = set_all(&call, op);
    PyMem_Free(call.given);
    return result;
}
