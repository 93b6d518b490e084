/* The state of a channel: the peers, the locks, and counts. */
#include "channel/channel.h"

const char ipckit_channel_side_doc[] = ("_side($self, role, /)\n--\n\n"
    "Return whether the channel has a sender (ROLE_SENDER) or a receiver\n"
    "(ROLE_RECEIVER): SIDE_NEVER_CAME, SIDE_PRESENT or SIDE_GONE.");

PyObject *
ipckit_channel_side(channel_object *self, PyObject *arg)
{
    long role;
    if (ipckit_long_arg(arg, "role", ROLE_SENDER, ROLE_RECEIVER, &role) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_unjoined(self, "peers");
    if (core == NULL) {
        return NULL;
    }
    return PyLong_FromLong((long)ring_other_side(&core->r, (uint32_t)role));
}

const char ipckit_channel_peers_doc[] = ("_peers($self, /)\n--\n\n"
    "Return (pid, token, roles, creator, since, sent, received, is_self) for each\n"
    "live peer.");

PyObject *
ipckit_channel_peers(channel_object *self, PyObject *Py_UNUSED(ignored))
{
    /* The list includes this process, so it joins. A forked child uses this to join early. */
    channel_core *core = ipckit_channel_unjoined(self, "peers");
    if (core != NULL) {
        core = ipckit_channel_joined(self, "peers");
    }
    if (core == NULL) {
        return NULL;
    }
    /* Creating a list or tuple may collect garbage, which may run any Python code, such as close. */
    long forks = ipckit_core_acquire(core);
    PyObject *result = PyList_New(0);
    for (uint32_t index = 0; result != NULL && index < CHANNEL_PEERS; index++) {
        const channel_peer *peer = &core->r.peers[index];
        bool self_peer = index == core->r.index;
        if (!peer->joined || (!self_peer && peer_lock_is_free(core->r.fd, index))) {
            continue;
        }
        PyObject *row = Py_BuildValue("IKIIKKKi", peer->pid, (unsigned long long)peer->token,
                                      peer->roles, peer->creator, (unsigned long long)peer->since,
                                      (unsigned long long)peer->sent,
                                      (unsigned long long)peer->received, (int)self_peer);
        if (row == NULL || PyList_Append(result, row) < 0) {
            Py_CLEAR(result);
        }
        Py_XDECREF(row);
    }
    ipckit_core_release(core, forks);
    return result;
}

/* Returns a lock of a side that is held. Senders need two; the other one may be free. */
static const channel_lock *
held_lock(const ring *r, uint32_t which)
{
    const channel_header *shared = r->shared;
    if (which == POLL_ITEMS) {
        return r->subscriber != NULL ? &r->subscriber->lock : &shared->receive_lock;
    }
    bool sends = load_acquire(&shared->send_lock.owner) != 0;
    return sends ? &shared->send_lock : &shared->pool_lock;
}

const char ipckit_channel_lock_holder_doc[] = ("_lock_holder($self, which, /)\n--\n\n"
    "Return (pid, token) of the peer that holds a lock that receivers need\n"
    "(POLL_ITEMS) or that senders need (POLL_SPACE); (0, 0) if there is none.");

PyObject *
ipckit_channel_lock_holder(channel_object *self, PyObject *arg)
{
    long which;
    if (ipckit_long_arg(arg, "which", POLL_ITEMS, POLL_SPACE, &which) < 0) {
        return NULL;
    }
    channel_core *core = ipckit_channel_unjoined(self, "peers");
    if (core == NULL) {
        return NULL;
    }
    const channel_lock *lock = held_lock(&core->r, (uint32_t)which);
    uint32_t index = owner_index(load_acquire(&lock->owner));
    bool known = index < CHANNEL_PEERS;
    return Py_BuildValue("IK", known ? core->r.peers[index].pid : 0,
                         known ? (unsigned long long)core->r.peers[index].token : 0);
}

/* Reads head before tail, so that tail is never behind it; the loads pair with ring_advance_head and
   ring_publish_tail. Both can change in between, so the results are limited to valid ones. */
uint64_t
ipckit_messages_in_ring(const ring *r, uint64_t *units)
{
    uint64_t head = load_acquire(&r->shared->head), tail = load_acquire(&r->shared->tail);
    uint64_t from = position_of(head), to = position_of(tail);
    bool valid = ring_position_is_valid(r, from) && ring_position_is_valid(r, to);
    *units = valid ? ring_distance(r, from, to) : 0;
    *units = *units > r->units ? r->units : *units;
    uint64_t waiting = (count_of(tail) - count_of(head)) & COUNT_MASK;
    return waiting > r->capacity ? r->capacity : waiting;
}

/* Returns the number of messages that were returned and wait. */
static uint64_t
messages_returned(const ring *r)
{
    uint64_t returned = 0;
    if (ring_may_have_returned(r)) {
        blocks_count(r, BLOCK_RETURNED, &returned);
    }
    return returned;
}

const char ipckit_channel_counts_doc[] = ("_counts($self, /)\n--\n\n"
    "Return (messages that wait, bytes in use, bytes of message memory, messages\n"
    "dropped, messages taken and not acknowledged).");

PyObject *
ipckit_channel_counts(channel_object *self, PyObject *Py_UNUSED(ignored))
{
    channel_core *core = ipckit_channel_unjoined(self, "stats");
    if (core == NULL) {
        return NULL;
    }
    const ring *r = &core->r;
    uint64_t units, blocks, taken;
    uint64_t waiting = ipckit_messages_in_ring(r, &units) + messages_returned(r);
    uint64_t granules = blocks_count(r, 0, &blocks);
    blocks_count(r, BLOCK_TAKEN, &taken);
    return Py_BuildValue("KKKKK", (unsigned long long)waiting,
                         (unsigned long long)(units * UNIT + granules * r->granule),
                         (unsigned long long)(r->units * UNIT + r->granules * r->granule),
                         (unsigned long long)load_acquire(&r->shared->dropped),
                         (unsigned long long)taken);
}

/* len(): the number of messages that wait. */
Py_ssize_t
ipckit_channel_length(channel_object *self)
{
    channel_core *core = ipckit_channel_unjoined(self, "len");
    uint64_t units;
    return core == NULL
        ? -1
        : (Py_ssize_t)(ipckit_messages_in_ring(&core->r, &units) + messages_returned(&core->r));
}
