/* A channel as a process has it open: its place among the peers, and its forks. */
#include "channel/channel.h"

#include <errno.h>
#include <stdio.h>

/* All that this process has open, so that a forked child finds them. Under the GIL. */
static channel_core *cores = NULL;

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
    return open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK); /* a lease must not make it wait */
}

int
ipckit_core_ensure_fd(channel_core *core)
{
    if (core->r.fd < 0) {
        core->r.fd = reopen(core->memory_fd);
    }
    return core->r.fd < 0 ? -1 : 0;
}

int
ipckit_core_join(channel_core *core)
{
    struct timespec now;
    if (core->joined) {
        return 0;
    }
    if (ipckit_core_ensure_fd(core) < 0) {
        return -1;
    }
    if (!ring_file_is_intact(&core->r)) {
        errno = EUCLEAN;
        return -1;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    if (!ring_join(&core->r, (uint32_t)getpid(), ipckit_own_token(), (uint64_t)now.tv_sec,
                   core->creator)) {
        errno = EUSERS;
        return -1;
    }
    core->joined = true;
    return 0;
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
    core->refs = core->users = 1;
    core->held = true;
    core->creator = creator;
    core->memory_fd = fd;
    int own = reopen(fd);
    bool good = own >= 0;
    if (good && !ring_open(&core->r, core->mapping->data, (uint64_t)core->mapping->size, own)) {
        errno = EUCLEAN;
        good = false;
    }
    if (!good || ipckit_core_join(core) < 0) {
        ipckit_oserror();
        close_fd(&own);
        PyMem_Free(core);
        return NULL;
    }
    Py_INCREF(mapping);
    core->mapping->exports++;
    core->next = cores;
    if (cores != NULL) {
        cores->previous = core;
    }
    cores = core;
    return core;
}

/* Gives up the place among the peers and every descriptor; the memory's is the handle's to close. */
static void
leave(channel_core *core)
{
    if (core->descriptors != NULL) {
        descriptors_free(core->descriptors);
        core->descriptors = NULL;
    }
    if (core->joined && ring_file_is_intact(&core->r)) {
        ring_leave(&core->r); /* otherwise the kernel does with the descriptor what is left to do */
    }
    core->joined = false;
    close_fd(&core->r.fd);
}

static void
release_memory(channel_core *core)
{
    if (--core->refs > 0) {
        return;
    }
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

long
ipckit_core_acquire(channel_core *core)
{
    core->refs++;
    core->users++;
    return core->forks;
}

void
ipckit_core_release(channel_core *core, long forks)
{
    if (forks == core->forks && --core->users == 0) {
        leave(core);
    }
    release_memory(core);
}

void
ipckit_core_close(channel_core *core)
{
    core->held = false;
    ipckit_core_release(core, core->forks);
}

int
ipckit_core_descriptor(channel_core *core, uint32_t which)
{
    if (core->descriptors == NULL) {
        core->descriptors = descriptors_new(&core->r);
    }
    return core->descriptors == NULL ? -1 : descriptor_get(core->descriptors, which);
}

/* The parent's place among the peers is locked through a file description that the child has
   inherited: it would seem to live for as long as the child does. The thread behind the descriptors is
   not in the child. */
static void
forked(channel_core *core)
{
    close_fd(&core->r.fd);
    if (core->descriptors != NULL) {
        descriptors_discard(core->descriptors);
        core->descriptors = NULL;
    }
    core->joined = false;
    core->creator = false;
    core->r.owner = 0;
    core->r.index = CHANNEL_PEERS;
    core->r.removing_peer = 0;
    core->forks++;
    core->users = core->held ? 1 : 0;
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
