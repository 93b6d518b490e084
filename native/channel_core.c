/* A channel as a process has it open: its place among the peers, its forks, and calls that wait. */
#include "channel.h"

#include <errno.h>
#include <stdlib.h>

/* All that this process has open, so that a forked child finds them. Under the GIL. */
static channel_core *cores = NULL;

static int
join(channel_core *core)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (core->r.fd < 0
        || !ring_join(&core->r, (uint32_t)getpid(), ipckit_own_token(), (uint64_t)now.tv_sec,
                      core->creator)) {
        errno = core->r.fd < 0 ? EBADF : EUSERS;
        ipckit_oserror();
        return -1;
    }
    core->joined = true;
    return 0;
}

static void
close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

/* Another file description of the memory, so that its lock on a place goes with this process alone:
   a mapping keeps the one that it was made with, and a forked child has that mapping too. */
static int
reopen(int fd)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDWR | O_CLOEXEC);
}

channel_core *
ipckit_core_new(PyObject *mapping, int fd, bool creator)
{
    channel_core *core = PyMem_Calloc(1, sizeof *core);
    if (core == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    core->mapping = (mapping_object *)mapping;
    core->refs = 1;
    core->creator = creator;
    core->poll_fd[0] = core->poll_fd[1] = -1;
    int own = reopen(fd);
    if (own < 0 || !ring_open(&core->r, core->mapping->data, (uint64_t)core->mapping->size, own)) {
        errno = own < 0 ? errno : EUCLEAN;
        ipckit_oserror();
    }
    if (PyErr_Occurred() || join(core) < 0) {
        close_fd(&own);
        PyMem_Free(core);
        return NULL;
    }
    core->memory_fd = fd;
    Py_INCREF(mapping);
    core->mapping->exports++;
    core->next = cores;
    if (cores != NULL) {
        cores->previous = core;
    }
    cores = core;
    return core;
}

channel_core *
ipckit_core_hold(channel_core *core)
{
    core->refs++;
    return core;
}

void
ipckit_core_drop(channel_core *core)
{
    if (--core->refs > 0) {
        return;
    }
    if (core->joined) {
        ring_leave(&core->r);
    }
    close_fd(&core->r.fd);
    close_fd(&core->r.tell_fd);
    close_fd(&core->poll_fd[0]);
    close_fd(&core->poll_fd[1]);
    if (core->previous != NULL) {
        core->previous->next = core->next;
    } else {
        cores = core->next;
    }
    if (core->next != NULL) {
        core->next->previous = core->previous;
    }
    ipckit_mapping_end_export(core->mapping);
    Py_DECREF((PyObject *)core->mapping);
    PyMem_Free(core);
}

int
ipckit_core_join(channel_core *core)
{
    return core->joined ? 0 : join(core);
}

channel_core *
ipckit_channel_core(channel_object *self, const char *op)
{
    if (self->core == NULL) {
        ipckit_ring_error(self, RING_CLOSED, op, NULL);
        return NULL;
    }
    return ipckit_core_join(self->core) < 0 ? NULL : self->core;
}

/* The parent's place among the peers is locked through a file description that the child has
   inherited: it would seem to live for as long as the child does. */
static void
forked(channel_core *core)
{
    close_fd(&core->r.fd);
    core->r.fd = reopen(core->memory_fd);
    close_fd(&core->poll_fd[0]);
    close_fd(&core->poll_fd[1]);
    core->joined = false;
    core->creator = false;
    core->r.me = 0;
    core->forks++;
}

PyDoc_STRVAR(forked_doc, "channels_forked()\n--\n\nCalled in a child after a fork.");

static PyObject *
native_forked(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    for (channel_core *core = cores; core != NULL; core = core->next) {
        forked(core);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"channels_forked", native_forked, METH_NOARGS, forked_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_channel_core(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
