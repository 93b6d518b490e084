/* Death at each named point of native/ring*.h, one step after the other in one process.

   A peer that dies is thrown out of its call by longjmp, and its descriptor closed: memory and locks
   are then as SIGKILL leaves them at that point. A model knows which messages must come, in which
   order, and which may. test_ring_deaths ROUNDS SEED; exits 0, or says what was wrong. */
static void ring_point(const char *name);
#define RING_POINT(name) ring_point(#name)
#include "ring_harness.h"

#include <setjmp.h>

#define PEERS 4
#define SLOTS 6
#define ENTRIES 512
#define STEPS 150

typedef struct {
    uint64_t at, length, number;
} slot;

typedef struct {
    handle h;
    bool gone;
    slot loans[SLOTS], views[SLOTS];
    int lent, viewed;
} peer;

typedef struct {
    uint64_t number;
    bool maybe; /* somebody died who was about to send or to take it */
} entry;

static channel shared;
static peer peers[PEERS];
static entry entries[ENTRIES];
static int first, last;
static uint64_t next_number, deaths;
static bool overwrite;

/* -- dying --------------------------------------------------------------------------------------- */

static jmp_buf out;
static long fuse;
static const char *fatal; /* the point at which whoever comes by dies */
static struct {
    const char *name;
    uint64_t deaths;
} points[64];

static void
ring_point(const char *name)
{
    int index = 0;
    while (points[index].name != NULL && strcmp(points[index].name, name) != 0) {
        index++;
    }
    points[index].name = name;
    if ((fuse != 0 && --fuse == 0) || (fatal != NULL && strcmp(fatal, name) == 0)) {
        points[index].deaths++;
        longjmp(out, 1);
    }
}

static void
bury(peer *dead)
{
    handle_die(&dead->h);
    dead->lent = dead->viewed = 0;
    deaths++;
    dead->gone = true;
}

static void
revive(peer *dead)
{
    fuse = 0;
    if (dead->gone) {
        handle_open(&dead->h, &shared);
        dead->gone = false;
    }
}

/* -- the model ----------------------------------------------------------------------------------- */

static void
expect(uint64_t number, bool maybe)
{
    check(last < ENTRIES, "the test's own queue is full");
    entries[last++] = (entry){number, maybe || overwrite};
}

/* A receiver died: what it may have taken. */
static void
doubt(uint64_t messages)
{
    for (int i = first; i < last && messages > 0; i++) {
        messages -= !entries[i].maybe;
        entries[i].maybe = true;
    }
}

static void
arrived(uint64_t number)
{
    while (first < last && entries[first].number != number) {
        check(entries[first].maybe, "a message is lost, or comes out of order");
        first++;
    }
    check(first < last, "a message comes twice, or was never sent");
    first++;
}

static void
nothing_left(void)
{
    while (first < last) {
        check(entries[first++].maybe, "a message is lost");
    }
    first = last = 0;
}

/* -- work that may end in death: RING_GONE ---------------------------------------------------------- */

typedef ring_result (*work)(handle *by, ring_call *call);

static ring_result
do_cancel(handle *by, ring_call *call)
{
    return cancel(by, call->at);
}

static ring_result
do_release(handle *by, ring_call *call)
{
    return release(by, call->at);
}

static ring_result
do_look(handle *by, ring_call *call)
{
    return ring_look_around(&by->r, call);
}

static ring_result
do_leave(handle *by, ring_call *call)
{
    (void)call;
    handle_close(by);
    return RING_OK;
}

static ring_result
do_open(handle *by, ring_call *call)
{
    (void)call;
    handle_open(by, &shared);
    return RING_OK;
}

/* A function of its own, so that longjmp spoils no local variable of the steps. */
__attribute__((noinline)) static ring_result
attempt(work what, handle *by, ring_call *call)
{
    if (setjmp(out) != 0) {
        return RING_GONE;
    }
    ring_result result = what(by, call);
    fuse = 0;
    return result;
}

/* -- steps: each gives what the operation did ------------------------------------------------------ */

static char buffer[1 << 16];

static uint64_t
some_length(void)
{
    uint64_t most = ring_longest(&peers[0].h.r);
    uint64_t kind = below(8);
    uint64_t length = kind == 0 ? below(most) : kind < 3 ? below(1200) : below(120);
    return length < LEAST ? LEAST : length > most ? most : length;
}

static bool impatient;

static int64_t
some_deadline(void)
{
    return !impatient && below(4) == 0 ? 1 : 0; /* long over: all of ring_do, but no sleep */
}

static ring_result
step_send(peer *p)
{
    ring_call call = call_of(&p->h, op_send, some_deadline());
    uint64_t number = ++next_number;
    call.length = some_length();
    message_fill(buffer, call.length, number);
    call.data = buffer;
    ring_result result = attempt(call_do, &p->h, &call);
    if (result == RING_OK || result == RING_GONE) {
        expect(number, result == RING_GONE);
    }
    return result;
}

static ring_result
step_batch(peer *p)
{
    ring_call call = call_of(&p->h, op_batch, some_deadline());
    uint64_t number = next_number + 1, items = 1 + below(6);
    call.length = LEAST + below(40);
    call.items = items;
    call.data = buffer;
    next_number += items;
    for (uint64_t i = 0; i < items; i++) {
        message_fill(buffer + i * call.length, call.length, number + i);
    }
    ring_result result = attempt(call_do, &p->h, &call);
    bool died = result == RING_GONE;
    for (uint64_t i = 0; i < items && (died || (result == RING_OK && i < call.items)); i++) {
        expect(number + i, died);
    }
    return result;
}

static ring_result
step_lend(peer *p)
{
    if (p->lent == SLOTS) {
        return RING_FULL;
    }
    ring_call call = call_of(&p->h, op_lend, some_deadline());
    call.length = some_length();
    ring_result result = attempt(call_do, &p->h, &call);
    if (result == RING_OK) {
        slot *lent = &p->loans[p->lent++];
        *lent = (slot){call.at, call.length, ++next_number};
        message_fill(ring_payload(&p->h.r, lent->at, lent->length), lent->length, lent->number);
    }
    return result;
}

static ring_result
step_end_loan(peer *p, bool send)
{
    if (p->lent == 0) {
        return RING_EMPTY;
    }
    int which = (int)below((uint64_t)p->lent);
    slot lent = p->loans[which];
    ring_call call = call_of(&p->h, op_send_loan, some_deadline());
    call.at = lent.at;
    call.length = lent.length;
    call.items = p->h.r.me;
    ring_result result = attempt(send ? call_do : do_cancel, &p->h, &call);
    if (send && result == RING_GONE) {
        expect(lent.number, true);
    }
    if (result == RING_OK) {
        p->loans[which] = p->loans[--p->lent];
        if (send) {
            expect(lent.number, false);
        }
    }
    return result;
}

static ring_result
step_receive(peer *p)
{
    ring_call call = call_of(&p->h, op_copy, some_deadline());
    uint64_t most = 1 + below(4);
    call.items = most;
    call.data = buffer;
    call.length = sizeof buffer;
    ring_result result = attempt(call_do, &p->h, &call);
    if (result == RING_GONE) {
        doubt(most);
    }
    for (uint64_t i = 0; i < call.items && result == RING_OK; i++) {
        arrived(message_number(buffer + i * call.message.length, call.message.length));
    }
    return result;
}

static ring_result
step_view(peer *p)
{
    if (p->viewed == SLOTS) {
        return RING_EMPTY;
    }
    ring_call call = call_of(&p->h, op_view, some_deadline());
    call.data = buffer;
    call.length = sizeof buffer;
    ring_result result = attempt(call_do, &p->h, &call);
    if (result == RING_GONE) {
        doubt(1);
    }
    if (result == RING_OK) {
        uint64_t length = call.message.length;
        uint64_t number = message_number(call.items == 0 ? buffer : call.message.data, length);
        arrived(number);
        if (call.items != 0) {
            p->views[p->viewed++] = (slot){call.message.at, length, number};
        }
    }
    return result;
}

static ring_result
step_release(peer *p)
{
    if (p->viewed == 0) {
        return RING_EMPTY;
    }
    int which = (int)below((uint64_t)p->viewed);
    slot view = p->views[which];
    const char *data = ring_payload(&p->h.r, view.at, view.length);
    check(message_number(data, view.length) == view.number, "a message changed while it was read");
    ring_call call = {.at = view.at};
    ring_result result = attempt(do_release, &p->h, &call);
    if (result == RING_OK) {
        p->views[which] = p->views[--p->viewed];
    }
    return result;
}

static ring_result
step_look(peer *p)
{
    ring_call call = call_of(&p->h, op_send, 0);
    return attempt(do_look, &p->h, &call);
}

static ring_result
step_leave(peer *p)
{
    if (p->lent + p->viewed != 0) {
        return RING_EMPTY;
    }
    ring_result result = attempt(do_leave, &p->h, NULL);
    if (result == RING_OK) {
        fuse = (long)below(3);
        result = attempt(do_open, &p->h, NULL);
    }
    return result;
}

static ring_result
one_step(peer *p, uint64_t what)
{
    return what < 4 ? step_send(p)
        : what < 6  ? step_batch(p)
        : what < 9  ? step_lend(p)
        : what < 12 ? step_end_loan(p, true)
        : what < 13 ? step_end_loan(p, false)
        : what < 17 ? step_receive(p)
        : what < 20 ? step_view(p)
        : what < 23 ? step_release(p)
        : what < 24 ? step_look(p)
                    : step_leave(p);
}

static void
fine(ring_result result)
{
    check(result == RING_OK || result == RING_EMPTY || result == RING_FULL
              || result == RING_TIMEOUT,
          "a survivor was told of corruption");
}

/* All give back what they have: the ring must be as free as a new one. */
static void
settle(void)
{
    fuse = 0;
    revive(&peers[0]);
    for (int i = 0; i < PEERS; i++) {
        while (peers[i].viewed > 0) {
            check(step_release(&peers[i]) == RING_OK, "a view can't be given back");
        }
        while (peers[i].lent > 0) {
            check(step_end_loan(&peers[i], below(2)) == RING_OK, "a loan can't be ended");
        }
    }
    ring_result result;
    while ((result = step_receive(&peers[0])) == RING_OK) {
    }
    check(result == RING_EMPTY || result == RING_TIMEOUT, "the ring can't be emptied");
    nothing_left();
    ring *r = &peers[0].h.r;
    check(step_look(&peers[0]) == RING_OK, "the dead can't be cleared away");
    ring_space space;
    check(ring_look_for_space(r, true, &space) == RING_OK, "corrupt at the end");
    check(space.room == r->units && space.loans == 0 && space.queued == 0,
          "what the dead had is not free again");
}

static void
make(uint64_t units, uint64_t capacity, bool overwriting)
{
    overwrite = overwriting;
    shared = channel_make(units, capacity, 0, overwrite ? CHANNEL_OVERWRITE : 0);
    fuse = 0;
    first = last = 0;
    for (int i = 0; i < PEERS; i++) {
        peers[i] = (peer){.gone = true};
        revive(&peers[i]);
    }
}

static void
unmake(void)
{
    for (int i = 0; i < PEERS; i++) {
        if (!peers[i].gone) {
            handle_close(&peers[i].h);
        }
    }
    channel_unmake(&shared);
}

static void
play(uint64_t seed)
{
    seed_chance(seed);
    uint64_t units = 64 + below(3) * 37 + below(2) * 400;
    make(units, 3 + below(20), below(4) == 0);
    uint64_t danger = 1 + below(4), near = 3 + below(20);
    for (int step = 0; step < STEPS; step++) {
        peer *p = &peers[below(PEERS)];
        revive(p);
        fuse = below(danger) == 0 ? 1 + (long)below(near) : 0;
        ring_result result = one_step(p, below(25));
        if (result == RING_GONE) {
            bury(p);
        } else {
            fine(result);
        }
        if (first == last) {
            first = last = 0;
        }
        if (below(40) == 0) {
            settle();
        }
    }
    settle();
    unmake();
}

/* -- what chance would take long to find ----------------------------------------------------------- */

static void
dies_at(const char *point, work what, peer *p, ring_call call)
{
    revive(p);
    fatal = point;
    check(attempt(what, &p->h, &call) == RING_GONE, "it does not come by that point");
    fatal = NULL;
    bury(p);
}

/* Each sender dies between moving tail and moving reserve, while a loan is counted that is none. */
static void
test_reserve_is_left_behind(void)
{
    make(64, 20, false);
    ring_call call = call_of(&peers[0].h, op_lend, 0);
    call.length = 8;
    check(attempt(call_do, &peers[0].h, &call) == RING_OK, "no loan");
    dies_at("freed", do_cancel, &peers[0], call);
    for (uint64_t number = 1; number < 400; number++) {
        call = call_of(&peers[1].h, op_send, 0);
        call.data = buffer;
        call.length = 60;
        message_fill(buffer, call.length, number);
        dies_at("after_tail", call_do, &peers[1], call);
        expect(number, false);
        check(step_receive(&peers[2]) == RING_OK && first == last, "a sent message does not come");
    }
    settle();
    unmake();
}

/* Who died right after it took its first role was there all the same. */
static void
test_a_role_is_seen(void)
{
    for (int reaped = 0; reaped < 3; reaped++) {
        make(64, 20, false);
        dies_at("role_taken", call_do, &peers[1], call_of(&peers[1].h, op_send, 0));
        if (reaped == 1) {
            peers[0].h.r.shared->reap_wanted = 1;
            check(ring_clear_away(&peers[0].h.r, 0) == RING_OK, "not cleared away");
        } else if (reaped == 2) {
            revive(&peers[1]);
            handle_close(&peers[1].h);
            peers[1].gone = true;
        }
        for (int i = 2; i < PEERS; i++) {
            ring_take_role(&peers[i].h.r, ROLE_RECEIVER);
        }
        check(ring_side(&peers[0].h.r, ROLE_SENDER) == SIDE_GONE, "its death was not noticed");
        unmake();
    }
}

/* Who never waits notices all the same that a receiver died, and has what it held. */
static void
test_the_dead_are_noticed_without_a_wait(void)
{
    make(64, 20, false);
    impatient = true;
    ring_result result;
    while ((result = step_send(&peers[0])) == RING_OK) {
    }
    check(result == RING_FULL || result == RING_TIMEOUT, "it does not get full");
    for (int i = 0; i < SLOTS && step_view(&peers[1]) == RING_OK; i++) {
    }
    bury(&peers[1]);
    while (step_receive(&peers[2]) == RING_OK) {
    }
    nothing_left();
    ring_call call = call_of(&peers[0].h, op_lend, 0);
    call.length = ring_longest(&peers[0].h.r);
    while ((result = attempt(call_do, &peers[0].h, &call)) == RING_FULL) {
    }
    check(result == RING_OK, "a dead receiver has its views for ever");
    impatient = false;
    unmake();
}

/* A lock that somebody wrote a living peer into. */
static void
test_a_lock_that_nobody_holds(void)
{
    make(64, 20, false);
    ring *r = &peers[0].h.r;
    r->shared->send_lock = peers[1].h.r.me;
    ring_call call = call_of(&peers[0].h, op_send, 0);
    call.data = buffer;
    call.length = 8;
    check(attempt(call_do, &peers[0].h, &call) == RING_CORRUPT, "it does not give up");
    call.deadline = monotonic_ns() + 1;
    check(attempt(call_do, &peers[0].h, &call) == RING_TIMEOUT, "it does not keep to its deadline");
    r->shared->reap_wanted = 1;
    call = call_of(&peers[0].h, op_copy, monotonic_ns() + 1);
    check(attempt(call_do, &peers[0].h, &call) == RING_TIMEOUT, "clearing away has no deadline");
    unmake();
}

int
main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 200, seed = argc > 2 ? atol(argv[2]) : 1;
    alarm(argc > 3 ? (unsigned)atoi(argv[3]) : 60); /* a hang is a failure */
    test_reserve_is_left_behind();
    test_a_role_is_seen();
    test_the_dead_are_noticed_without_a_wait();
    test_a_lock_that_nobody_holds();
    for (long round = 0; round < rounds; round++) {
        fprintf(stderr, "seed %ld\r", seed + round);
        play((uint64_t)(seed + round));
    }
    for (int i = 0; points[i].name != NULL; i++) {
        printf("%s %llu\n", points[i].name, (unsigned long long)points[i].deaths);
    }
    printf("%llu deaths\nok\n", (unsigned long long)deaths);
    return 0;
}
