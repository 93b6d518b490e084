/* The directory of POSIX message queues, also where it is mounted nowhere. */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Older kernel headers have neither the calls nor their constants; the numbers are one for all
   architectures. */
#ifndef SYS_fsopen
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
#define CLOEXEC 1
#define CMD_CREATE 6

/* A mount of this IPC namespace's queues that hangs in no mount namespace; -1 with errno set. */
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
             "A descriptor of the directory that lists this IPC namespace's POSIX queues, mounted\n"
             "nowhere; see fsmount(2). It takes CAP_SYS_ADMIN.");

static PyObject *
native_mqueue_directory(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    int mount = detached_mount();
    if (mount < 0) {
        return ipckit_oserror();
    }
    /* The mount's own descriptor only names it, and cannot be read. */
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

int
ipckit_add_mqueue_fs(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
