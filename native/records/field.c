/* Field: the descriptor that reads and writes one field of a Record in place. */
#include "records/record.h"

#include <string.h>
#include <structmember.h>

/* The field's bytes in a record; NULL with TypeError set if the record is of another class. */
static char *
locate(Field *field, PyObject *op)
{
    if (!PyObject_TypeCheck(op, field->record_type)) {
        PyErr_Format(PyExc_TypeError, "field %R is a field of a struct, not of %R", field->name,
                     (PyObject *)Py_TYPE(op));
        return NULL;
    }
    Record *record = (Record *)op;
    if (field->offset > record->size - field->size) {
        PyErr_Format(PyExc_TypeError, "field %R is a field of another struct", field->name);
        return NULL;
    }
    return record->data + field->offset;
}

static PyObject *
field_get(PyObject *op, PyObject *record, PyObject *owner)
{
    Field *self = (Field *)op;
    (void)owner;
    if (record == NULL || record == Py_None) {
        return Py_NewRef(op);
    }
    const char *data = locate(self, record);
    return data == NULL ? NULL : ipckit_value_get(self, record, data);
}

int
ipckit_field_set(Field *field, PyObject *record, PyObject *value)
{
    char *data = locate(field, record);
    if (data == NULL) {
        return -1;
    }
    if (value == NULL) {
        PyErr_Format(PyExc_AttributeError, "field %R cannot be deleted", field->name);
        return -1;
    }
    if (((Record *)record)->readonly) {
        PyErr_Format(PyExc_TypeError, "field %R is a view of read-only memory", field->name);
        return -1;
    }
    return ipckit_value_set(field, record, data, value);
}

static int
field_descr_set(PyObject *op, PyObject *record, PyObject *value)
{
    return ipckit_field_set((Field *)op, record, value);
}

/* Checks the type of a field of code r: 0, or -1 with an exception set. */
static int
check_record_type(PyObject *type, Py_ssize_t size)
{
    if (!PyType_Check(type)
        || !PyType_IsSubtype((PyTypeObject *)type, ipckit_interpreter()->record_type)) {
        PyErr_SetString(PyExc_TypeError, "a field of code 'r' needs a Record type");
        return -1;
    }
    Layout *layout = ipckit_layout_of((PyTypeObject *)type);
    if (layout == NULL) {
        return -1;
    }
    bool same = layout->minimum == size;
    Py_DECREF((PyObject *)layout);
    if (!same) {
        PyErr_SetString(PyExc_ValueError, "size differs from the size of the field's type");
        return -1;
    }
    return 0;
}

/* Whether a field of `code` can have `size` bytes. check_record_type checks the type of code r. */
static bool
size_fits_code(int code, Py_ssize_t size)
{
    switch (code) {
    case 'i':
    case 'u':
        return size == 1 || size == 2 || size == 4 || size == 8;
    case 'f':
        return size == 4 || size == 8;
    case '?':
        return size == 1;
    case 'c':
    case 's':
    case 'r':
    case 'o':
        return size >= 0;
    default:
        return false;
    }
}

/* Whether a field of `code` and `size` can have a bit-field of `width` bits, which begins in its first
   byte and ends in its last one. */
static bool
bits_fit(int code, Py_ssize_t size, int first_bit, int width)
{
    return strchr("iu?", code) != NULL && first_bit >= 0 && first_bit < 8 && width >= 1
           && width <= 64 && size == (first_bit + width + 7) / 8;
}

static PyObject *
field_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "code", "offset", "size", "swap", "type", "first_bit", "width",
                            NULL};
    PyObject *name;
    PyObject *field_type = Py_None;
    int code;
    int swap = 0;
    int first_bit = 0;
    int width = 0;
    Py_ssize_t offset;
    Py_ssize_t size;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UCnn|pOii:Field", names, &name, &code, &offset,
                                     &size, &swap, &field_type, &first_bit, &width)) {
        return NULL;
    }
    bool fits = width == 0 ? size_fits_code(code, size) : bits_fit(code, size, first_bit, width);
    if (offset < 0 || offset > RECORD_SIZE_MAX || size > RECORD_SIZE_MAX || !fits) {
        PyErr_SetString(PyExc_ValueError, "invalid code, offset or size of a field");
        return NULL;
    }
    if (code == 'r' && check_record_type(field_type, size) < 0) {
        return NULL;
    }
    Field *self = (Field *)PyType_GenericAlloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->record_type = (PyTypeObject *)Py_XNewRef((PyObject *)ipckit_interpreter()->record_type);
    self->name = Py_NewRef(name);
    self->type = Py_NewRef(field_type);
    self->offset = offset;
    self->size = size;
    self->code = code;
    self->first_bit = first_bit;
    self->width = width;
    self->swap = swap != 0;
    return (PyObject *)self;
}

static void
field_dealloc(PyObject *op)
{
    Field *self = (Field *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_XDECREF((PyObject *)self->record_type);
    Py_XDECREF(self->name);
    Py_XDECREF(self->type);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static int
field_traverse(PyObject *op, visitproc visit, void *arg)
{
    Field *self = (Field *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->record_type);
    Py_VISIT(self->type);
    return 0;
}

static PyObject *
field_repr(PyObject *op)
{
    Field *self = (Field *)op;
    return PyUnicode_FromFormat("<Field %R, code %c, offset %zd, size %zd>", self->name, self->code,
                                self->offset, self->size);
}

/* The field's line in `help(Stu)`. */
static PyObject *
field_doc_of(PyObject *op, void *closure)
{
    Field *self = (Field *)op;
    (void)closure;
    const char *kind = self->code == 'i'   ? "signed integer"
                       : self->code == 'u' ? "unsigned integer"
                       : self->code == 'f' ? "floating-point number"
                       : self->code == '?' ? "bool"
                       : self->code == 'c' ? "text"
                       : self->code == 's' ? "bytes"
                       : self->code == 'r' ? "nested struct"
                                           : "array";
    if (self->width > 0) {
        return PyUnicode_FromFormat("%s of %d bits, from bit %d of the byte at offset %zd", kind,
                                    self->width, self->first_bit, self->offset);
    }
    return PyUnicode_FromFormat("%s, %zd bytes at offset %zd", kind, self->size, self->offset);
}

static PyGetSetDef field_getset[] = {
    {"__doc__", field_doc_of, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef field_members[] = {
    {"name", T_OBJECT, offsetof(Field, name), READONLY, "the field's name"},
    {"offset", T_PYSSIZET, offsetof(Field, offset), READONLY, "bytes from the record's start"},
    {"size", T_PYSSIZET, offsetof(Field, size), READONLY, "bytes of the field"},
    {NULL, 0, 0, 0, NULL},
};

/* Field(name, code, offset, size, swap=False, type=None, first_bit=0, width=0). The codes: i signed, u
   unsigned, f float, ? bool, c UTF-8 text, s bytes, r a record of `type`, o an array, which
   `type.view(record)` returns and `type.assign(record, value)` writes. For i and u, `type` can be a
   mapping: the field reads as `type[number]`. With a width, i, u and ? are bit-fields.

   There is no Py_tp_doc: it would hide the `__doc__` of the fields. */
static PyType_Slot field_slots[] = {
    {Py_tp_new, field_new},
    {Py_tp_dealloc, field_dealloc},
    {Py_tp_traverse, field_traverse},
    {Py_tp_repr, field_repr},
    {Py_tp_members, field_members},
    {Py_tp_getset, field_getset},
    {Py_tp_descr_get, field_get},
    {Py_tp_descr_set, field_descr_set},
    {0, NULL},
};

static PyType_Spec field_spec = {
    .name = "ipckit._native.Field",
    .basicsize = sizeof(Field),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = field_slots,
};

int
ipckit_add_field(PyObject *module)
{
    interpreter_state *state = ipckit_interpreter();
    if (state->field_type == NULL) {
        state->field_type = (PyTypeObject *)PyType_FromSpec(&field_spec);
    }
    if (state->field_type == NULL || PyModule_AddType(module, state->field_type) < 0) {
        return -1;
    }
    return PyModule_AddIntMacro(module, RECORD_SIZE_MAX);
}
