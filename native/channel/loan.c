/* ChannelBase's loan and receive_view, without a Python frame in between. */
#include "channel/channel.h"

PyObject *
ipckit_channel_set_in_place(channel_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t unit, size;
    native_state *state = ipckit_channel_state(self);
    if (state == NULL || ipckit_check_nargs("_set_in_place", nargs, 4) < 0
        || ipckit_holder_type_arg(args[0], state) < 0
        || ipckit_holder_type_arg(args[1], state) < 0
        || ipckit_size_arg(args[2], "unit", &unit) < 0
        || ipckit_size_arg(args[3], "size", &size) < 0) {
        return NULL;
    }
    if (self->loan_type != NULL) {
        PyErr_SetString(PyExc_ValueError, "it is set already");
        return NULL;
    }
    self->loan_type = Py_NewRef(args[0]);
    self->view_type = Py_NewRef(args[1]);
    self->loan_unit = unit;
    self->loan_size = size;
    Py_RETURN_NONE;
}

static PyObject *
lend(channel_object *self, native_state *state, PyObject *type, Py_ssize_t length,
     PyObject *timeout)
{
    ring_call call;
    if (ipckit_call_init(self, &call, POLL_SPACE, ipckit_op_lend, timeout, "loan") < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_joined(self, "loan");
    if (core == NULL) {
        return NULL;
    }
    ipckit_note_sender(core);
    call.length = (uint64_t)length;
    ring_snapshot before = ring_take_snapshot(&core->r, POLL_SPACE);
    long forks = ipckit_core_acquire(core);
    ring_result result = ipckit_call(core, &call);
    PyObject *holder = NULL;
    if (result == RING_OK) {
        lease_object *lease = ipckit_lease_new(state, core, call.at, call.length, true);
        if (lease == NULL) {
            ring_cancel_loan(&core->r, call.at, core->r.owner);
        }
        holder = ipckit_holder_new(type, self, lease);
    } else {
        ipckit_update_space_fd(core, result, before);
        ipckit_ring_error(self, result, "loan", timeout);
    }
    ipckit_core_release(core, forks);
    return holder;
}

PyObject *
ipckit_channel_lend(channel_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t length;
    native_state *state = ipckit_channel_state(self);
    if (state == NULL || ipckit_check_nargs("_lend", nargs, 3) < 0
        || ipckit_holder_type_arg(args[0], state) < 0
        || ipckit_size_arg(args[1], "nbytes", &length) < 0) {
        return NULL;
    }
    return lend(self, state, args[0], length, args[2]);
}

/* The bytes of a loan that is asked for in the plainest way: by no argument or a number of elements;
   -1 for any other. */
static Py_ssize_t
plain_length(const channel_object *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs == 0) {
        return self->loan_size > 0 ? self->loan_size : -1;
    }
    if (nargs != 1 || self->loan_unit == 0 || !PyLong_CheckExact(args[0])) {
        return -1;
    }
    Py_ssize_t elements = PyLong_AsSsize_t(args[0]);
    if (elements < 0 || elements > PY_SSIZE_T_MAX / self->loan_unit) {
        PyErr_Clear();
        return -1;
    }
    Py_ssize_t length = elements * self->loan_unit;
    return self->loan_size == 0 || length == self->loan_size ? length : -1;
}

/* As Python's _loan has it. */
static PyObject *
loan_any(channel_object *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *loan = PyObject_GetAttrString((PyObject *)self, "_loan");
    PyObject *place = PyTuple_New(nargs), *named = PyDict_New(), *result = NULL;
    if (loan == NULL || place == NULL || named == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        if (PyTuple_SetItem(place, i, Py_NewRef(args[i])) < 0) {
            goto done;
        }
    }
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_Size(kwnames); i++) {
        if (PyDict_SetItem(named, PyTuple_GetItem(kwnames, i), args[nargs + i]) < 0) {
            goto done;
        }
    }
    result = PyObject_Call(loan, place, named);
done:
    Py_XDECREF(loan);
    Py_XDECREF(place);
    Py_XDECREF(named);
    return result;
}

const char ipckit_channel_loan_doc[] = (
             "loan($self, shape=None, *, timeout=None)\n--\n\n"
             "Room in the channel for one message, to be written in place.\n\n"
             "Args:\n"
             "    shape: the array's elements or shape; bytes, for a channel whose type is no array.\n"
             "        By default one message of the type's fixed size.\n"
             "    timeout: seconds to wait while the channel is full.\n\n"
             "Returns:\n"
             "    The loan: ``.array``, ``.buf``, ``.value`` to write it, ``.send()`` to send it. In a\n"
             "    ``with`` block it is given back if it was not sent.\n\n"
             "Raises:\n"
             "    InvalidArgument: `shape` is missing or below 0.\n"
             "    IpcError: as `send`.");

PyObject *
ipckit_channel_loan(channel_object *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t length = kwnames == NULL && self->loan_type != NULL ? plain_length(self, args, nargs)
                                                                   : -1;
    if (length < 0) {
        return loan_any(self, args, nargs, kwnames);
    }
    return lend(self, self->state, self->loan_type, length, Py_None);
}

const char ipckit_channel_receive_view_doc[] = (
             "receive_view($self, *, timeout=None)\n--\n\n"
             "Take the next message and read it where it lies.\n\n"
             "Args:\n"
             "    timeout: seconds to wait until there is one.\n\n"
             "Returns:\n"
             "    The view: ``.array``, ``.buf``, ``.value``. The channel has the memory back when it\n"
             "    and all arrays of it are gone.\n\n"
             "Raises:\n"
             "    IpcError: as `receive`.");

PyObject *
ipckit_channel_receive_view(channel_object *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    PyObject *timeout;
    ring_call call;
    char small[GIL_FREE_BYTES];
    native_state *state = ipckit_channel_state(self);
    if (state == NULL
        || ipckit_timeout_arg(self, "receive_view", args, nargs, 0, kwnames, &timeout) < 0
        || ipckit_call_init(self, &call, POLL_ITEMS, ipckit_op_view, timeout, "receive_view") < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_joined(self, "receive_view");
    if (core == NULL) {
        return NULL;
    }
    ring_add_role(&core->r, ROLE_RECEIVER);
    call.data = small;
    call.length = 0; /* leave it in place; what can't be is copied to `small` */
    long forks = ipckit_core_acquire(core);
    ring_result result = ipckit_call(core, &call);
    PyObject *holder = NULL;
    if (result == RING_OK) {
        holder = ipckit_holder_of_view(self, state, self->view_type, core, &call, small);
    }
    ipckit_update_items_fd(core, result);
    if (result != RING_OK) {
        ipckit_ring_error(self, result, "receive_view", timeout);
    }
    ipckit_core_release(core, forks);
    return holder;
}
