/* The numbers of the channel protocol that Python uses too. Python imports them and defines none of
   them again; tests/house/test_numbers.py checks that. */
#include "channel/channel.h"

static const struct {
    const char *name;
    uint64_t value;
} constants[] = {
    /* The results of a call on a ring: `ring_result` of ring/ring.h. */
    {"RING_OK", RING_OK},
    {"RING_EMPTY", RING_EMPTY},
    {"RING_FULL", RING_FULL},
    {"RING_BUSY", RING_BUSY},
    {"RING_TOO_LONG", RING_TOO_LONG},
    {"RING_CORRUPT", RING_CORRUPT},
    {"RING_TIMEOUT", RING_TIMEOUT},
    {"RING_INTERRUPTED", RING_INTERRUPTED},
    {"RING_GONE", RING_GONE},
    {"RING_CLOSED", RING_CLOSED},
    {"RING_NO_PLACE", RING_NO_PLACE},
    {"RING_LIMIT", RING_LIMIT},
    /* What ring_side_state returns. */
    {"SIDE_NEVER_CAME", SIDE_NEVER_CAME},
    {"SIDE_PRESENT", SIDE_PRESENT},
    {"SIDE_GONE", SIDE_GONE},
    /* The layout: ring/channel_layout.h. */
    {"CHANNEL_MAGIC", CHANNEL_MAGIC},
    {"CHANNEL_VERSION", CHANNEL_VERSION},
    {"TOPIC_MAGIC", TOPIC_MAGIC},
    {"TOPIC_VERSION", TOPIC_VERSION},
    {"TOPIC_START", TOPIC_START},
    {"WAITS_BITS", WAITS_BITS},
    {"TOPIC_SUBSCRIBERS", TOPIC_SUBSCRIBERS},
    {"CHANNEL_OVERWRITE", CHANNEL_OVERWRITE},
    {"CHANNEL_PEERS", CHANNEL_PEERS},
    {"CHANNEL_ARENA_START", CHANNEL_ARENA_START},
    {"CHANNEL_TYPE_SIZE", CHANNEL_TYPE_SIZE},
    {"UNIT", UNIT},
    {"INLINE_MAX", INLINE_MAX},
    {"GRANULES_MAX", GRANULES_MAX},
    {"CAPACITY_MAX", CAPACITY_MAX},
    {"ROLE_SENDER", ROLE_SENDER},
    {"ROLE_RECEIVER", ROLE_RECEIVER},
    {"POLL_ITEMS", POLL_ITEMS},
    {"POLL_SPACE", POLL_SPACE},
};

int
ipckit_add_channel_constants(PyObject *module)
{
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        if (PyModule_AddIntConstant(module, constants[i].name, (long)constants[i].value) < 0) {
            return -1;
        }
    }
    return 0;
}
