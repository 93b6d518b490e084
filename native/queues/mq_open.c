/* POSIX message queues: opening, and the attributes of an open queue. */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mqueue.h>

PyDoc_STRVAR(mq_open_doc,
             "mq_open(name, flags, mode, max_messages, max_size, /)\n--\n\n"
             "mq_open(3): a descriptor, which the kernel marks close-on-exec. The last three\n"
             "arguments count only if `flags` has O_CREAT.");

/* Returns the descriptor as an int. Needs the GIL and releases it during the call, which may wait
   for the directory's lock in the kernel. */
static PyObject *
native_mq_open(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int flags;
    long mode;
    struct mq_attr attr = {.mq_flags = 0};
    PyObject *name = NULL;
    if (ipckit_check_nargs("mq_open", nargs, 5) < 0
        || ipckit_int_arg(args[1], "flags", &flags) < 0
        || ipckit_long_arg(args[2], "mode", 0, 0777, &mode) < 0
        || ipckit_long_arg(args[3], "max_messages", 0, LONG_MAX, &attr.mq_maxmsg) < 0
        || ipckit_long_arg(args[4], "max_size", 0, LONG_MAX, &attr.mq_msgsize) < 0
        || !PyUnicode_FSConverter(args[0], &name)) {
        return NULL;
    }
    mqd_t queue;
    const char *path = PyBytes_AsString(name);
    Py_BEGIN_ALLOW_THREADS
    queue = mq_open(path, flags, (mode_t)mode, &attr);
    Py_END_ALLOW_THREADS
    int error = errno;
    Py_DECREF(name);
    errno = error;
    return queue < 0 ? ipckit_oserror() : PyLong_FromLong(queue);
}

PyDoc_STRVAR(mq_getattr_doc,
             "mq_getattr(fd, /)\n--\n\n"
             "mq_getattr(3): (mq_flags, mq_maxmsg, mq_msgsize, mq_curmsgs).");

/* Returns a tuple of four ints; changes nothing. */
static PyObject *
native_mq_getattr(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int fd;
    if (ipckit_int_arg(arg, "fd", &fd) < 0) {
        return NULL;
    }
    struct mq_attr attr;
    if (mq_getattr(fd, &attr) < 0) {
        return ipckit_oserror();
    }
    return Py_BuildValue("llll", attr.mq_flags, attr.mq_maxmsg, attr.mq_msgsize, attr.mq_curmsgs);
}

static PyMethodDef functions[] = {
    {"mq_open", (PyCFunction)(void (*)(void))native_mq_open, METH_FASTCALL, mq_open_doc},
    {"mq_getattr", native_mq_getattr, METH_O, mq_getattr_doc},
    {NULL, NULL, 0, NULL},
};

/* Adds the functions of this file to the module: 0, or -1 with an exception set. */
int
ipckit_add_mq_open(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
