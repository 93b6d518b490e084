/* MessageForm: how the instances of one Struct class are sent as System V messages.

   A C program declares `struct { long mtype; FIELDS }` and sends `sizeof m - sizeof(long)` bytes, so
   the struct's tail padding is part of the message. A Struct class declares all of it (a message
   struct) or only the fields. */
#include "queues/message_form.h"

#include <limits.h>
#include <string.h>
#include <structmember.h>

int
ipckit_message_form_arg(PyObject *object, MessageForm **form)
{
    *form = NULL;
    if (object == Py_None) {
        return 0;
    }
    if (!Py_IS_TYPE(object, ipckit_interpreter()->message_form_type)) {
        PyErr_SetString(PyExc_TypeError, "a form is a MessageForm or None");
        return -1;
    }
    *form = (MessageForm *)object;
    return 0;
}

int
ipckit_own_mtype(PyObject *record, const Py_buffer *data, long *mtype)
{
    if ((size_t)data->len < sizeof *mtype) {
        PyErr_SetString(ipckit_bad_argument(), "the data is too short to begin with an mtype");
        return -1;
    }
    memcpy(mtype, data->buf, sizeof *mtype);
    if (*mtype >= 1) {
        return 0;
    }
    PyObject *name = PyType_GetName(Py_TYPE(record));
    if (name != NULL) {
        PyErr_Format(ipckit_bad_argument(), "field mtype of %U must be 1 to %ld, not %ld", name,
                     LONG_MAX, *mtype);
        Py_DECREF(name);
    }
    return -1;
}

/* Whether a text of `size` bytes has all fields of the struct, and nothing after them but padding. */
static bool
fits(const MessageForm *form, Py_ssize_t size)
{
    if (form->flexible) {
        return form->least <= size;
    }
    return (form->least <= size && size <= form->whole) || size == form->padded;
}

/* Creates a record from a text that `fits`. Padding that the struct itself lacks is dropped. A new reference, or NULL with an exception set. */
static PyObject *
new_record(const MessageForm *form, long mtype, const char *text, Py_ssize_t size)
{
    Py_ssize_t taken = form->flexible || size < form->whole ? size : form->whole;
    Py_ssize_t record_size = form->flexible ? form->head + size : form->layout->size;
    Record *record = ipckit_record_new(form->record_type, form->layout, record_size);
    if (record == NULL) {
        return NULL;
    }
    if (form->head > 0) {
        memcpy(record->data, &mtype, sizeof mtype);
    }
    memcpy(record->data + form->head, text, (size_t)taken);
    return (PyObject *)record;
}

PyObject *
ipckit_message_value(const MessageForm *form, long mtype, const char *text, Py_ssize_t size)
{
    if (form != NULL && fits(form, size)) {
        return new_record(form, mtype, text, size);
    }
    return PyBytes_FromStringAndSize(text, size);
}

/* Which texts fit, for an error. A new reference, or NULL with an exception set. */
static PyObject *
expectation(const MessageForm *form, PyObject *name)
{
    const char *after = form->head > 0 ? " after its mtype" : "";
    if (form->flexible) {
        return PyUnicode_FromFormat("expected at least %zd bytes for %U%s", form->least, name, after);
    }
    if (form->least < form->whole) {
        return PyUnicode_FromFormat("expected %zd to %zd bytes for %U%s", form->least, form->whole, name,
                                    after);
    }
    return PyUnicode_FromFormat("expected %zd bytes for %U%s", form->whole, name, after);
}

/* Sets LayoutMismatch for a text that does not fit. */
static void
raise_mismatch(const MessageForm *form, const char *text, Py_ssize_t size)
{
    PyObject *name = PyType_GetName(form->record_type);
    PyObject *expected = name == NULL ? NULL : expectation(form, name);
    if (expected != NULL) {
        ipckit_raise_mismatch(PyUnicode_FromFormat("%U, got %zd", expected, size), text, size);
    }
    Py_XDECREF(expected);
    Py_XDECREF(name);
}

PyDoc_STRVAR(decode_doc,
             "decode($self, mtype, text, /)\n--\n\n"
             "Create an instance of the class from a message's type and text. LayoutMismatch if the\n"
             "text does not fit.");

static PyObject *
form_decode(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    MessageForm *form = (MessageForm *)op;
    long mtype;
    Py_buffer text;
    if (ipckit_check_nargs("decode", nargs, 2) < 0
        || ipckit_long_arg(args[0], "mtype", LONG_MIN, LONG_MAX, &mtype) < 0
        || ipckit_bytes_arg(args[1], &text) < 0) {
        return NULL;
    }
    PyObject *record = NULL;
    if (fits(form, text.len)) {
        record = new_record(form, mtype, text.buf, text.len);
    } else {
        raise_mismatch(form, text.buf, text.len);
    }
    PyBuffer_Release(&text);
    return record;
}

/* Sets the sizes from `self->layout`: 0, or -1 with ValueError set. `end` counts the bytes up to the end
   of the last field. */
static int
set_sizes(MessageForm *self, bool typed, Py_ssize_t end)
{
    Py_ssize_t alignment = (Py_ssize_t)_Alignof(long);
    Py_ssize_t size = self->layout->size;
    self->head = typed ? (Py_ssize_t)sizeof(long) : 0;
    self->flexible = self->layout->measure != Py_None;
    if (end < self->head || end > size || (self->flexible && end != self->layout->minimum)) {
        PyErr_SetString(PyExc_ValueError, "the last field must end inside the struct, after its mtype");
        return -1;
    }
    self->whole = size - self->head;
    self->least = typed || self->flexible ? end - self->head : self->whole;
    /* After a long, C pads the struct to the alignment of a long. The limit of a Layout's size keeps
       the sum from overflowing. */
    self->padded = typed ? self->whole : (size + alignment - 1) / alignment * alignment;
    return 0;
}

static PyObject *
form_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *record_type;
    int typed;
    Py_ssize_t end;
    if (!PyArg_ParseTuple(args, "Opn:MessageForm", &record_type, &typed, &end)
        || ipckit_record_type_arg(record_type, &record_type) < 0) {
        return NULL;
    }
    if (record_type == NULL) {
        PyErr_SetString(PyExc_TypeError, "a MessageForm is of a Struct class");
        return NULL;
    }
    Layout *layout = ipckit_layout_of((PyTypeObject *)record_type);
    MessageForm *self = layout == NULL ? NULL : (MessageForm *)PyType_GenericAlloc(type, 0);
    if (self == NULL) {
        Py_XDECREF((PyObject *)layout);
        return NULL;
    }
    self->record_type = (PyTypeObject *)Py_NewRef(record_type);
    self->layout = layout;
    if (set_sizes(self, typed, end) < 0) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    return (PyObject *)self;
}

static void
form_dealloc(PyObject *op)
{
    MessageForm *self = (MessageForm *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_XDECREF((PyObject *)self->record_type);
    Py_XDECREF((PyObject *)self->layout);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

/* No tp_clear: it is immutable, as a Layout is. */
static int
form_traverse(PyObject *op, visitproc visit, void *arg)
{
    MessageForm *self = (MessageForm *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->record_type);
    Py_VISIT(self->layout);
    return 0;
}

static PyMethodDef form_methods[] = {
    {"decode", (PyCFunction)(void (*)(void))form_decode, METH_FASTCALL, decode_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef form_members[] = {
    {"head", T_PYSSIZET, offsetof(MessageForm, head), READONLY,
     "bytes of the mtype with which the struct begins; 0 if it begins with another field"},
    {"longest", T_PYSSIZET, offsetof(MessageForm, padded), READONLY,
     "bytes of the longest text that fits"},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(form_doc,
             "MessageForm(record_type, typed, end, /)\n--\n\n"
             "How the instances of a Struct class are sent as System V messages.\n\n"
             "Args:\n"
             "    record_type: the Struct class.\n"
             "    typed: whether it begins with the message type, a long.\n"
             "    end: bytes up to the end of the last field; only padding follows.");

static PyType_Slot form_slots[] = {
    {Py_tp_doc, (void *)form_doc},
    {Py_tp_new, form_new},
    {Py_tp_dealloc, form_dealloc},
    {Py_tp_traverse, form_traverse},
    {Py_tp_methods, form_methods},
    {Py_tp_members, form_members},
    {0, NULL},
};

static PyType_Spec form_spec = {
    .name = "ipckit._native.MessageForm",
    .basicsize = sizeof(MessageForm),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = form_slots,
};

/* Adds the type of this file to the module: 0, or -1 with an exception set. */
int
ipckit_add_message_form(PyObject *module)
{
    interpreter_state *state = ipckit_interpreter();
    if (state->message_form_type == NULL) {
        state->message_form_type = (PyTypeObject *)PyType_FromSpec(&form_spec);
    }
    return state->message_form_type == NULL ? -1
                                            : PyModule_AddType(module, state->message_form_type);
}
