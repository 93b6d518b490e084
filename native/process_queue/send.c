/* Piece.write and send: write an object of a ProcessQueue into its piece, and send a message that refers
   to the piece. */
#include "process_queue/spill.h"

#define WRITE_MAX ((size_t)1 << 26) /* maximum bytes of one pwrite(2); then signals are checked */

/* Writes bytes to the piece through the file, from the byte `at` on. Runs signal handlers, and stops if
   one of them forked and this is the child. Returns 0, or -1 with an exception set. */
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

const char ipckit_piece_write_doc[] = (
             "write($self, parts, /)\n--\n\n"
             "Copy a list of bytes-like objects into the piece, one after the other.");

PyObject *
ipckit_piece_write(piece_object *self, PyObject *parts)
{
    if (!PyList_Check(parts)) {
        PyErr_SetString(PyExc_TypeError, "write takes a list of bytes-like objects");
        return NULL;
    }
    uint64_t at = 0;
    /* A signal handler may fork. Then the parent owns the piece and continues to write it. */
    for (Py_ssize_t i = 0; ipckit_piece_is_ours(self) && i < PyList_Size(parts); i++) {
        Py_buffer data;
        PyObject *part = PyList_GetItem(parts, i);
        if (part == NULL || ipckit_bytes_arg(part, &data) < 0) {
            return NULL;
        }
        uint64_t bytes = (uint64_t)data.len;
        int failed = -1;
        if (bytes > self->size - at) {
            PyErr_SetString(PyExc_ValueError, "the parts have more bytes than the piece");
        } else {
            failed = write_file(self, at, data.buf, bytes);
        }
        PyBuffer_Release(&data);
        if (failed < 0) {
            return NULL;
        }
        at += bytes;
    }
    if (ipckit_piece_is_ours(self) && at != self->size) {
        PyErr_SetString(PyExc_ValueError, "the parts have fewer bytes than the piece");
        return NULL;
    }
    Py_RETURN_NONE;
}

typedef struct {
    const piece_object *piece;
    bool ours; /* whether the piece was this process's at the last try */
} send_request;

/* Sends the message that refers to the piece. Requires send_lock. Gives the piece to the queue before it
   sends the message, because a receiver may take the message at once. If the process is killed in between,
   spill_is_orphan finds by the message's number that no message refers to the piece. The stores of
   entry->word pair with the acquire loads in spill_change and spill_load. Returns as ring_send, or
   RING_CLOSED in a forked child. */
static ring_result
send_reference(ring *r, ring_call *call)
{
    send_request *request = (send_request *)(uintptr_t)call->data;
    const piece_object *piece = request->piece;
    request->ours = ipckit_piece_is_ours(piece);
    if (!request->ours) {
        return RING_CLOSED;
    }
    spill_entry *entry = &piece->spill->table->entries[piece->index];
    uint64_t word = SPILL_QUEUED | count_of(load_acquire(&r->shared->senders_tail));
    spill_reference reference = {SPILL_MAGIC, (uint64_t)piece->index, word, piece->size};
    store_release(&entry->word, word);
    ring_result result = ring_send(r, &reference, sizeof reference);
    if (result != RING_OK) {
        store_release(&entry->word, piece->token);
    }
    return result;
}

const char ipckit_piece_send_doc[] = (
             "send($self, timeout, /)\n--\n\n"
             "Send the piece; its receiver owns it afterwards. Raise as `Channel.send`; then the piece\n"
             "was not sent. Return True, or False in a forked child whose parent owns the piece.");

PyObject *
ipckit_piece_send(piece_object *self, PyObject *timeout)
{
    ring_call call;
    channel_object *channel = self->spill->channel;
    send_request request = {self, ipckit_piece_is_ours(self)};
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
    call.data = (const char *)&request;
    call.length = sizeof(spill_reference);
    ipckit_note_sender(core);
    long forks = ipckit_core_acquire(core);
    ring_snapshot before = ring_take_snapshot(&core->r, POLL_SPACE);
    ring_result result = ipckit_call(core, &call);
    if (result == RING_OK) {
        self->index = -1;
    } else if (request.ours) {
        ipckit_update_space_fd(core, &call, result, before);
        ipckit_ring_error(channel, result, "send", timeout);
    }
    ipckit_core_release(core, forks);
    if (result != RING_OK && request.ours) {
        return NULL;
    }
    return PyBool_FromLong(result == RING_OK);
}
