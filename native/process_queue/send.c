/* Writing a large object of a ProcessQueue into its piece, and sending it. */
#include "process_queue/spill.h"
#include "ring/copy.h"

#include <sys/mman.h>

#define WRITE_MAX ((size_t)1 << 26) /* bytes of one pwrite, after which signals are looked for */

/* Copies bytes into the file. Returns 0, or -1 with an exception set. */
static int
write_file(const piece_object *self, uint64_t at, const char *data, size_t bytes)
{
    int fd = self->spill->fd;
    off_t offset = (off_t)(spill_offset(self->spill->table, (uint32_t)self->index) + at);
    while (bytes > 0 && ipckit_piece_is_ours(self)) {
        ssize_t written;
        int error;
        Py_BEGIN_ALLOW_THREADS
        written = pwrite(fd, data, bytes < WRITE_MAX ? bytes : WRITE_MAX, offset);
        error = errno;
        Py_END_ALLOW_THREADS
        if (written < 0 && error != EINTR) {
            errno = error;
            ipckit_oserror();
            return -1;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
        size_t done = written < 0 ? 0 : (size_t)written;
        data += done;
        bytes -= done;
        offset += (off_t)done;
    }
    return 0;
}

/* Where to write the piece in place, or NULL: a piece that is not kept warm, or whose memory is not
   all allocated yet, is written through the file, because that says so if there is no memory. */
static char *
place_of(const piece_object *self)
{
    spill_object *spill = self->spill;
    if (self->index >= SPILL_WARM) {
        return NULL;
    }
    if (spill_load(&spill->table->entries[self->index].filled) < self->size) {
        return NULL;
    }
    char **place = &spill->warm[self->index];
    if (*place == NULL) {
        void *found = mmap(NULL, SPILL_WARM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, spill->fd,
                           (off_t)spill_offset(spill->table, (uint32_t)self->index));
        *place = found == MAP_FAILED ? NULL : found;
    }
    return *place;
}

static int
write_part(const piece_object *self, char *place, uint64_t at, PyObject *part, uint64_t *bytes)
{
    Py_buffer data;
    if (ipckit_bytes_arg(part, &data) < 0) {
        return -1;
    }
    int result = 0;
    *bytes = (uint64_t)data.len;
    if (*bytes > self->size - at) {
        PyErr_SetString(PyExc_ValueError, "the parts have more bytes than the piece");
        result = -1;
    } else if (place == NULL) {
        result = write_file(self, at, data.buf, *bytes);
    } else if (*bytes <= GIL_FREE_BYTES) {
        memcpy(place + at, data.buf, *bytes);
    } else {
        Py_BEGIN_ALLOW_THREADS
        copy_large(place + at, data.buf, *bytes);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    return result;
}

const char ipckit_piece_write_doc[] = (
             "write($self, parts, /)\n--\n\n"
             "Copy a list of bytes-like objects into the piece, one behind the other.");

PyObject *
ipckit_piece_write(piece_object *self, PyObject *parts)
{
    if (!PyList_Check(parts)) {
        PyErr_SetString(PyExc_TypeError, "a list is wanted");
        return NULL;
    }
    uint64_t at = 0;
    char *place = ipckit_piece_is_ours(self) ? place_of(self) : NULL;
    /* A signal's handler may fork: then the piece is the parent's, which goes on writing it. */
    for (Py_ssize_t i = 0; ipckit_piece_is_ours(self) && i < PyList_Size(parts); i++) {
        PyObject *part = PyList_GetItem(parts, i);
        uint64_t bytes = 0;
        Py_XINCREF(part);
        int failed = part == NULL ? -1 : write_part(self, place, at, part, &bytes);
        Py_XDECREF(part);
        if (failed < 0) {
            return NULL;
        }
        at += bytes;
    }
    if (ipckit_piece_is_ours(self) && at != self->size) {
        PyErr_SetString(PyExc_ValueError, "the parts have fewer bytes than the piece");
        return NULL;
    }
    if (ipckit_piece_is_ours(self) && self->index < SPILL_WARM && place == NULL) {
        uint64_t *filled = &self->spill->table->entries[self->index].filled;
        uint64_t before = spill_load(filled);
        __atomic_store_n(filled, before > at ? before : at, __ATOMIC_RELEASE);
    }
    Py_RETURN_NONE;
}

typedef struct {
    const piece_object *piece;
    bool ours;
} sending;

/* Sends the message that refers to the piece, with send_lock held. The piece is the queue's before the
   message is: a receiver may be quick. If the process is killed in between, the number tells later
   that no message refers to the piece. */
static ring_result
send_reference(ring *r, ring_call *call)
{
    sending *what = (sending *)(uintptr_t)call->data;
    const piece_object *piece = what->piece;
    what->ours = ipckit_piece_is_ours(piece);
    if (!what->ours) {
        return RING_CLOSED;
    }
    spill_entry *entry = &piece->spill->table->entries[piece->index];
    uint64_t word = SPILL_QUEUED | count_of(load_word(&r->shared->senders_tail));
    spill_reference reference = {SPILL_MAGIC, (uint64_t)piece->index, word, piece->size};
    __atomic_store_n(&entry->word, word, __ATOMIC_RELEASE);
    ring_result result = ring_send(r, &reference, sizeof reference);
    if (result != RING_OK) {
        __atomic_store_n(&entry->word, piece->token, __ATOMIC_RELEASE);
    }
    return result;
}

const char ipckit_piece_send_doc[] = (
             "send($self, timeout, /)\n--\n\n"
             "Send the piece, which is the receiver's then: Channel.send. Without an exception it\n"
             "was sent, with one it was not. False if it is the parent's, in a forked child.");

PyObject *
ipckit_piece_send(piece_object *self, PyObject *timeout)
{
    ring_call call;
    channel_object *channel = self->spill->channel;
    sending what = {self, ipckit_piece_is_ours(self)};
    if (ipckit_call_init(channel, &call, POLL_SPACE, send_reference, timeout, "send") < 0) {
        return NULL;
    }
    if (!ipckit_piece_is_ours(self)) {
        Py_RETURN_FALSE;
    }
    channel_core *core = ipckit_channel_joined(channel, "send");
    if (core == NULL) {
        return NULL;
    }
    call.data = (const char *)&what;
    call.length = sizeof(spill_reference);
    ipckit_note_sender(core);
    long forks = ipckit_core_acquire(core);
    ring_snapshot before = ring_take_snapshot(&core->r, POLL_SPACE);
    ring_result result = ipckit_call(core, &call);
    if (result == RING_OK) {
        self->index = -1;
    } else if (what.ours) {
        ipckit_update_space_fd(core, result, before);
        ipckit_ring_error(channel, result, "send", timeout);
    }
    ipckit_core_release(core, forks);
    if (result != RING_OK && what.ours) {
        return NULL;
    }
    return PyBool_FromLong(result == RING_OK);
}
