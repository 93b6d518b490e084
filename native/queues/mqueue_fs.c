/* The directory that lists POSIX message queues, even if it is not mounted. */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Older kernel headers have neither the calls nor their constants. The numbers are the same on all
   architectures. */
#ifndef SYS_fsopen
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
#define CLOEXEC 1
#define CMD_CREATE 6

/* Mounts this IPC namespace's queues outside of any mount namespace. Returns a descriptor of the
   mount, or -1 with errno set. */
static int
detached_mount(void)
{
    int context = (int)syscall(SYS_fsopen, "mqueue", CLOEXEC);
    if (context < 0) {
        return -1;
    }
    int mount = -1;
    if (syscall(SYS_fsconfig, context, CMD_CREATE, NULL, NULL, 0) == 0) {
        mount = (int)syscall(SYS_fsmount, context, CLOEXEC, 0);
    }
    int error = errno;
    close(context);
    errno = error;
    return mount;
}

PyDoc_STRVAR(mqueue_directory_doc,
             "mqueue_directory()\n--\n\n"
             "A descriptor of the directory that lists this IPC namespace's POSIX queues, without\n"
             "mounting it anywhere; see fsmount(2). Needs CAP_SYS_ADMIN.");

/* Returns the descriptor as an int, which the caller closes. */
static PyObject *
native_mqueue_directory(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    int mount = detached_mount();
    if (mount < 0) {
        return ipckit_oserror();
    }
    /* The mount's own descriptor is like one of O_PATH, which cannot be read. */
    int directory = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = errno;
    close(mount);
    if (directory < 0) {
        errno = error;
        return ipckit_oserror();
    }
    return PyLong_FromLong(directory);
}

static PyMethodDef functions[] = {
    {"mqueue_directory", native_mqueue_directory, METH_NOARGS, mqueue_directory_doc},
    {NULL, NULL, 0, NULL},
};

/* Adds the functions of this file to the module: 0, or -1 with an exception set. */
int
ipckit_add_mqueue_fs(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
