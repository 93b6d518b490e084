/* Looking at a channel or a topic without opening it: its facts, its peers, its messages. Nothing in its
   memory changes (ring/look.h). */
#include "channel/channel.h"
#include "ring/look.h"

/* How often to look again at the messages if receivers take them faster than they are copied. */
#define LOOKS_MAX 8

/* What the words of the blocks say: how much is in use, and how many blocks each peer holds. */
typedef struct {
    uint64_t granules;
    uint64_t taken;    /* messages taken and not acknowledged */
    uint64_t returned; /* messages that wait again */
    uint32_t held[CHANNEL_PEERS];
} block_facts;

/* Counts a block for the peer that an owner names, if it names one. */
static void
count_for_owner(block_facts *facts, uint32_t owner)
{
    uint32_t index = owner_index(owner);
    if (index < CHANNEL_PEERS) {
        facts->held[index]++;
    }
}

/* Counts a block that the subscribers in `readers` read. */
static void
count_for_readers(const ring *r, block_facts *facts, uint64_t readers)
{
    FOR_EACH_PLACE(place, readers) {
        count_for_owner(facts, r->subscribers[place].owner);
    }
}

static void
count_blocks(const ring *r, block_facts *facts)
{
    *facts = (block_facts){0};
    for (uint64_t at = 0; at < r->granules;) {
        uint64_t word = block_load(r, (uint32_t)at), step = block_step(r, at, word);
        block_kind kind = block_kind_of(word);
        facts->granules += block_is_free(r, at, word) ? 0 : step;
        facts->taken += kind == BLOCK_TAKEN;
        facts->returned += kind == BLOCK_RETURNED;
        if (ring_is_topic(r)) {
            count_for_readers(r, facts, word == BLOCK_FREE ? 0 : r->readers[at]);
        }
        if (kind == BLOCK_LENT || (!ring_is_topic(r) && (kind == BLOCK_READ || kind == BLOCK_TAKEN))) {
            count_for_owner(facts, (uint32_t)block_holder(word));
        }
        at += step;
    }
}

/* Returns the row of a peer, or NULL with an exception set. */
static PyObject *
peer_row(const channel_peer *peer, uint32_t index, uint32_t blocks)
{
    return Py_BuildValue("{sI sI sK sI sI sI sK sK sK sK sI}", "index", index, "pid", peer->pid, "token",
                         (unsigned long long)peer->token, "roles", peer->roles, "creator", peer->creator,
                         "waits", peer->waits, "since", (unsigned long long)peer->since, "sent",
                         (unsigned long long)peer->sent, "received", (unsigned long long)peer->received,
                         "taken", (unsigned long long)peer->taken, "blocks", blocks);
}

/* Returns a list of the live peers, or NULL with an exception set. */
static PyObject *
peer_rows(const ring_look *look, const block_facts *facts)
{
    PyObject *rows = PyList_New(0);
    for (uint32_t index = 0; rows != NULL && index < CHANNEL_PEERS; index++) {
        const channel_peer *peer = &look->r.peers[index];
        if (!peer->joined || peer_lock_is_free(look->fd, index)) {
            continue;
        }
        PyObject *row = peer_row(peer, index, facts->held[index]);
        if (row == NULL || PyList_Append(rows, row) < 0) {
            Py_CLEAR(rows);
        }
        Py_XDECREF(row);
    }
    return rows;
}

/* Returns a list of (index of the peer, drops, depth, unread, lost, received, since) of the subscribers, or
   NULL with an exception set. */
static PyObject *
subscriber_rows(const ring_look *look)
{
    const ring *r = &look->r;
    PyObject *rows = PyList_New(0);
    for (uint32_t place = 0; rows != NULL && ring_is_topic(r) && place < TOPIC_SUBSCRIBERS; place++) {
        const topic_subscriber *member = topic_active(r, place);
        uint32_t index = member == NULL ? CHANNEL_PEERS : owner_index(member->owner);
        if (index >= CHANNEL_PEERS || peer_lock_is_free(look->fd, index)) {
            continue;
        }
        uint64_t lost, unread = topic_unread(r, member, &lost);
        PyObject *row = Py_BuildValue(
            "(IiKKKKK)", index, (int)(member->drops != 0), (unsigned long long)member->depth,
            (unsigned long long)unread, (unsigned long long)lost, (unsigned long long)member->received,
            (unsigned long long)member->since);
        if (row == NULL || PyList_Append(rows, row) < 0) {
            Py_CLEAR(rows);
        }
        Py_XDECREF(row);
    }
    return rows;
}

/* Returns the index of the peer that holds a lock, or -1. */
static int
lock_index(const channel_lock *lock)
{
    uint32_t index = owner_index(lock->owner);
    return index < CHANNEL_PEERS ? (int)index : -1;
}

/* Returns the text of the payload's type, or NULL with an exception set. */
static PyObject *
type_text(const channel_header *header)
{
    const char *text = header->type;
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strnlen(text, sizeof header->type), "replace");
}

/* Returns the messages that are in the memory, and sets `*bytes` to what they occupy of the arena. */
static uint64_t
messages_of(const ring *r, const block_facts *facts, uint64_t *bytes)
{
    if (!ring_is_topic(r)) {
        uint64_t units, waiting = ipckit_messages_in_ring(r, &units);
        *bytes = units * UNIT;
        return waiting + facts->returned;
    }
    uint64_t head = r->shared->head, tail = r->shared->tail;
    *bytes = ipckit_topic_bytes_used(r, head, tail);
    uint64_t kept = tail > head ? tail - head : 0;
    return kept < r->slots ? kept : r->slots;
}

/* Returns the facts of a ring as a dict, or NULL with an exception set. */
static PyObject *
facts_of(const ring_look *look)
{
    const ring *r = &look->r;
    const channel_header *header = r->shared;
    block_facts facts;
    count_blocks(r, &facts);
    uint64_t bytes, messages = messages_of(r, &facts, &bytes);
    return Py_BuildValue(
        "{sN sK sK sK sK sK sO sK sK sK sK sK sK sK sK sI s(iii) sN sN}",
        "type", type_text(header), "fingerprint", (unsigned long long)header->fingerprint,
        "capacity", (unsigned long long)r->capacity, "item_size", (unsigned long long)r->item_size,
        "longest", (unsigned long long)r->longest, "history", (unsigned long long)r->history,
        "overwrite", r->overwrite ? Py_True : Py_False, "created", (unsigned long long)header->created,
        "messages", (unsigned long long)messages,
        "bytes_used", (unsigned long long)(bytes + facts.granules * r->granule),
        "bytes", (unsigned long long)(r->units * UNIT + r->granules * r->granule),
        "dropped", (unsigned long long)header->dropped, "taken", (unsigned long long)facts.taken,
        "tail", (unsigned long long)(ring_is_topic(r) ? header->tail : count_of(header->tail)),
        "head", (unsigned long long)(ring_is_topic(r) ? header->head : count_of(header->head)),
        "senders_seen", header->senders_seen,
        "locks", lock_index(&header->send_lock), lock_index(&header->receive_lock),
        lock_index(&header->pool_lock), "peers", peer_rows(look, &facts),
        "subscribers", subscriber_rows(look));
}

PyDoc_STRVAR(look_doc,
             "ring_look(fd, topic, /)\n--\n\n"
             "Return the facts of the channel, or topic, whose file `fd` is, without changing it. Raise\n"
             "OSError if it can't be read; EINVAL if it is not one.");

static PyObject *
native_look(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd, topic;
    ring_look look;
    bool open;
    if (!PyArg_ParseTuple(args, "ip", &fd, &topic)) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    open = look_open(&look, fd, topic);
    Py_END_ALLOW_THREADS
    if (!open) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *facts = facts_of(&look);
    look_close(&look);
    return facts;
}

/* -- messages ---------------------------------------------------------------------------------- */

/* Appends (bytes, number of times it was returned) to a list. Returns -1 with an exception set. */
static int
append_message(PyObject *list, const ring *r, const ring_message *message)
{
    uint64_t times = message->returned ? r->deliveries[message->block].redelivered : 0;
    PyObject *item = Py_BuildValue("(y#K)", message->data, (Py_ssize_t)message->length,
                                   (unsigned long long)times);
    int result = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return result;
}

/* Appends the next messages of a channel, at most `most`. Returns 0; -1 with an exception set; or 1 with
   errno set if it can't be read, or is damaged. */
static int
channel_messages(ring_look *look, PyObject *list, Py_ssize_t most)
{
    ring *r = &look->r;
    uint64_t first = count_of(r->shared->head);
    if (!look_copy_records(look)) {
        return 1;
    }
    ring_message message;
    ring_result result = RING_EMPTY;
    while (PyList_Size(list) < most && (result = ring_peek(r, &message)) == RING_OK) {
        if (message.block != NO_BLOCK && !look_copy_message(look, &message)) {
            return 1;
        }
        if (look_still_waits(look, &message, first) && append_message(list, r, &message) < 0) {
            return -1;
        }
        ring_drop(r, &message);
    }
    bool moved = count_of(look_again(look, &r->shared->head)) != first;
    errno = EINVAL;
    return result == RING_CORRUPT && !moved ? 1 : 0;
}

/* Appends the newest messages of a topic, at most `most`, the oldest of them first. Returns as
   channel_messages. */
static int
topic_messages(ring_look *look, PyObject *list, Py_ssize_t most)
{
    ring *r = &look->r;
    uint64_t head = r->shared->head, tail = r->shared->tail;
    if (tail < head || !look_copy_entries(look)) {
        errno = tail < head ? EINVAL : errno;
        return 1;
    }
    uint64_t kept = tail - head < r->slots ? tail - head : r->slots;
    uint64_t wanted = (uint64_t)most < kept ? (uint64_t)most : kept;
    for (uint64_t number = tail - wanted; number < tail; number++) {
        ring_message message;
        bool found = topic_describe(r, number, &message) == RING_OK && look_copy_message(look, &message);
        bool kept_now = look_again(look, &r->shared->head) <= number && errno == 0;
        if (!found && kept_now) {
            errno = EINVAL;
            return 1;
        }
        if (found && kept_now && append_message(list, r, &message) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Looks once. Returns as channel_messages. */
static int
messages_once(PyObject *list, int fd, bool topic, Py_ssize_t most, bool *had)
{
    ring_look look;
    bool open;
    Py_BEGIN_ALLOW_THREADS
    open = look_open(&look, fd, topic);
    Py_END_ALLOW_THREADS
    if (!open) {
        return 1;
    }
    *had = count_of(look.r.shared->head) != count_of(look.r.shared->tail);
    int result = topic ? topic_messages(&look, list, most) : channel_messages(&look, list, most);
    int error = errno;
    look_close(&look);
    errno = error;
    return result;
}

PyDoc_STRVAR(messages_doc,
             "ring_messages(fd, topic, most, /)\n--\n\n"
             "Return (bytes, times returned) of each of the next messages of a channel, or of the newest\n"
             "of a topic, at most `most`. They stay. A message that is taken meanwhile is left out. Raise\n"
             "OSError if it can't be read; EINVAL if it is not a channel or topic, or is damaged.");

static PyObject *
native_messages(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd, topic, result = 0;
    Py_ssize_t most;
    bool had = true;
    if (!PyArg_ParseTuple(args, "ipn", &fd, &topic, &most)) {
        return NULL;
    }
    PyObject *list = NULL;
    for (int looks = 0; looks < LOOKS_MAX && result >= 0; looks++) {
        Py_XDECREF(list);
        list = PyList_New(0);
        result = list == NULL ? -1 : messages_once(list, fd, topic, most, &had);
        if (result < 0 || (result == 0 && (!had || PyList_Size(list) != 0 || most <= 0))) {
            break;
        }
    }
    if (result != 0) {
        Py_CLEAR(list);
    }
    return result == 1 ? PyErr_SetFromErrno(PyExc_OSError) : list;
}

static PyMethodDef functions[] = {
    {"ring_look", native_look, METH_VARARGS, look_doc},
    {"ring_messages", native_messages, METH_VARARGS, messages_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_channel_look(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
