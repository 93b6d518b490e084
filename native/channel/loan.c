/* ChannelBase.loan and receive_view. They are in C to save the time of a Python function call. */
#include "channel/channel.h"

/* _set_in_place(loan, view, unit, size): stores the classes of loans and views, the bytes of an array's
   element, and the bytes of every message (0: not known). */
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
        PyErr_SetString(PyExc_ValueError, "_set_in_place was called before");
        return NULL;
    }
    self->loan_type = Py_NewRef(args[0]);
    self->view_type = Py_NewRef(args[1]);
    self->loan_unit = unit;
    self->loan_size = size;
    Py_RETURN_NONE;
}

/* Lends memory for a message of `length` bytes; waits while the channel is full. Returns an instance of
   `type`, a subclass of LeaseHolder, or NULL with an exception set. */
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
        lease_object *lease =
            ipckit_lease_new(state, core, BLOCK_LENT, call.block, NULL, call.length);
        holder = ipckit_holder_new(type, self, lease);
    } else {
        ipckit_update_space_fd(core, &call, result, before);
        ipckit_ring_error(self, result, "loan", timeout);
    }
    ipckit_core_release(core, forks);
    return holder;
}

/* _lend(holder, nbytes, timeout): see lend. */
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

/* Returns the bytes of a loan for the arguments of `loan`: no argument, or a valid number of elements.
   Returns -1 for any other arguments, which Python's `_loan` handles. */
static Py_ssize_t
length_of_simple_loan(const channel_object *self, PyObject *const *args, Py_ssize_t nargs)
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

/* Calls Python's `_loan` with the same arguments. Returns its result. */
static PyObject *
call_python_loan(channel_object *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *loan = PyObject_GetAttrString((PyObject *)self, "_loan");
    PyObject *positional = PyTuple_New(nargs), *named = PyDict_New(), *result = NULL;
    if (loan == NULL || positional == NULL || named == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        if (PyTuple_SetItem(positional, i, Py_NewRef(args[i])) < 0) {
            goto done;
        }
    }
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_Size(kwnames); i++) {
        if (PyDict_SetItem(named, PyTuple_GetItem(kwnames, i), args[nargs + i]) < 0) {
            goto done;
        }
    }
    result = PyObject_Call(loan, positional, named);
done:
    Py_XDECREF(loan);
    Py_XDECREF(positional);
    Py_XDECREF(named);
    return result;
}

const char ipckit_channel_loan_doc[] = (
             "loan($self, shape=None, *, timeout=None)\n--\n\n"
             "Return memory in the channel for one message, to be written in place and then sent.\n\n"
             "The loan does not count as a message until it is sent.\n\n"
             "Args:\n"
             "    shape: the number of elements of the array, or its shape. If the channel's type is not\n"
             "        a dtype, the number of bytes. Optional if every message has the same size.\n"
             "    timeout: seconds to wait while the channel is full; None (default) waits without\n"
             "        limit, 0 does not wait.\n\n"
             "Returns:\n"
             "    The `Loan`. Write the message with ``.array``, ``.buf`` or ``.value``, then call\n"
             "    ``.send()``. The end of its ``with`` block cancels a loan that was not sent.\n\n"
             "Raises:\n"
             "    InvalidArgument: `shape` is missing, negative or not the size of the type.\n"
             "    IpcError: as for `send`.\n\n"
             ">>> import numpy as np\n"
             ">>> from ipckit import Channel\n"
             ">>> with Channel.anonymous(np.dtype(\"f8\")) as channel:\n"
             "...     with channel.loan(3) as loan:\n"
             "...         loan.array[:] = 1.5\n"
             "...         loan.send()\n"
             "...     channel.receive()\n"
             "array([1.5, 1.5, 1.5])");

PyObject *
ipckit_channel_loan(channel_object *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    bool may_be_simple = kwnames == NULL && self->loan_type != NULL;
    Py_ssize_t length = may_be_simple ? length_of_simple_loan(self, args, nargs) : -1;
    if (length < 0) {
        return call_python_loan(self, args, nargs, kwnames);
    }
    return lend(self, self->state, self->loan_type, length, Py_None);
}

const char ipckit_channel_receive_view_doc[] = (
             "receive_view($self, *, timeout=None)\n--\n\n"
             "Take the next message without copying it. Wait until there is one.\n\n"
             "Args:\n"
             "    timeout: seconds to wait; None (default) waits without limit, 0 does not wait.\n\n"
             "Returns:\n"
             "    The `View`. Read the message with ``.array``, ``.buf`` or ``.value``. Its memory is\n"
             "    free for other messages when the view is released and no array or memoryview of it\n"
             "    exists any more. Until then the view occupies that memory and no more.\n\n"
             "Raises:\n"
             "    IpcError: as for `receive`.\n\n"
             ">>> import numpy as np\n"
             ">>> from ipckit import Channel\n"
             ">>> with Channel.anonymous(np.dtype(\"f8\")) as channel:\n"
             "...     channel.send(np.array([1.0, 2.0]))\n"
             "...     with channel.receive_view() as view:\n"
             "...         print(view.array.sum())\n"
             "3.0");

PyObject *
ipckit_channel_receive_view(channel_object *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    PyObject *timeout;
    ring_call call;
    char small[INLINE_MAX];
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
