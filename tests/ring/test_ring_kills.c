/* Senders and receivers that kill themselves with SIGKILL at named points, or are killed wherever
   they are, while others go on.

   What a send said it had sent arrives once and whole, but for what a receiver had in hand when it
   was killed; what was being sent arrives once or not at all. test_ring_kills KILLS SEED SECONDS. */
static void ring_point(const char *name);
#define RING_POINT(name) ring_point(#name)
#include "ring_harness.h"

#define SENDERS 2
#define RECEIVERS 2
#define WORKERS (SENDERS + RECEIVERS)
#define EACH 64 /* messages that have a life's number in common; then it goes on as another */
#define HELD 3

enum { BEGUN = 1, SENT = 2, ARRIVED = 4 };

typedef struct {
    uint32_t lives;     /* numbers given to senders */
    uint32_t stop;
    uint32_t in_hand[WORKERS]; /* takes a message, which is lost with it */
    uint8_t state[];
} tally;

static channel shared;
static tally *counted;
static uint32_t lives_most;
static long fuse;

static uint32_t *in_hand;

static void
ring_point(const char *name)
{
    if (in_hand != NULL && strcmp(name, "before_head") == 0) {
        __atomic_store_n(in_hand, 1, __ATOMIC_SEQ_CST);
    }
    if (fuse != 0 && --fuse == 0) {
        kill(getpid(), SIGKILL);
    }
}

static bool
stopping(void)
{
    return __atomic_load_n(&counted->stop, __ATOMIC_ACQUIRE);
}

static void
mark(uint64_t number, uint8_t what)
{
    uint8_t before = __atomic_fetch_or(&counted->state[number], what, __ATOMIC_SEQ_CST);
    check(!(before & what), "a message came twice");
    check(what != ARRIVED || (before & BEGUN), "a message came that nobody sent");
}

static int64_t
soon(void)
{
    return monotonic_ns() + NS_PER_MS;
}

/* -- a sender -------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t at[HELD], length[HELD];
    int count;
} held;

static bool
send_one(handle *h, held *loans, uint64_t number)
{
    char block[1500];
    bool lent = loans->count > 0 && below(2) == 0;
    int64_t deadline = loans->count == 0 ? INT64_MAX : soon();
    ring_call call = call_of(h, lent ? op_send_loan : below(3) == 0 ? op_batch : op_send, deadline);
    call.length = LEAST + below(below(8) == 0 ? 1300 : 100);
    call.data = block;
    call.items = 1;
    if (lent) {
        int which = (int)below((uint64_t)loans->count--);
        call.at = loans->at[which];
        call.length = loans->length[which];
        call.items = h->r.owner;
        call.deadline = INT64_MAX;
        loans->at[which] = loans->at[loans->count];
        loans->length[which] = loans->length[loans->count];
    }
    message_fill(lent ? ring_payload(&h->r, call.at, call.length) : block, call.length, number);
    ring_result result = call_do(h, &call);
    check(result == RING_OK
              || ((result == RING_TIMEOUT || result == RING_BUSY) && loans->count > 0),
          "a send fails");
    return result == RING_OK;
}

static void
lend_or_cancel(handle *h, held *loans)
{
    if (loans->count == HELD || (loans->count > 0 && below(4) == 0)) {
        check(cancel(h, loans->at[--loans->count]) == RING_OK, "a loan can't be given up");
        return;
    }
    ring_call call = call_of(h, op_lend, soon());
    call.length = LEAST + below(300);
    ring_result result = call_do(h, &call);
    check(result == RING_OK || result == RING_TIMEOUT || result == RING_BUSY, "no loan");
    if (result == RING_OK) {
        loans->at[loans->count] = call.at;
        loans->length[loans->count++] = call.length;
    }
}

static void
send_on(handle *h)
{
    held loans = {.count = 0};
    while (!stopping()) {
        uint64_t life = __atomic_fetch_add(&counted->lives, 1, __ATOMIC_RELAXED);
        check(life < lives_most, "the test's table is too small");
        for (uint64_t number = life * EACH; number < (life + 1) * EACH && !stopping(); number++) {
            mark(number, BEGUN);
            while (!send_one(h, &loans, number)) {
                check(cancel(h, loans.at[--loans.count]) == RING_OK, "a loan can't be given up");
            }
            mark(number, SENT);
            if (below(2) == 0) {
                lend_or_cancel(h, &loans);
            }
        }
    }
    while (loans.count > 0) {
        check(cancel(h, loans.at[--loans.count]) == RING_OK, "a loan can't be given up");
    }
}

/* -- a receiver ------------------------------------------------------------------------------------ */

static void
give_back(handle *h, held *views)
{
    int which = (int)below((uint64_t)views->count--);
    message_number(ring_payload(&h->r, views->at[which], views->length[which]),
                   views->length[which]);
    check(release(h, views->at[which]) == RING_OK, "a view can't be released");
    views->at[which] = views->at[views->count];
    views->length[which] = views->length[views->count];
}

static void
receive_on(handle *h)
{
    char block[1500];
    held views = {.count = 0};
    uint64_t last = 0, *newest = calloc(lives_most, sizeof *newest);
    for (;;) {
        bool view = views.count < HELD && below(2) == 0;
        ring_call call = call_of(h, view ? op_view : op_copy, soon());
        call.wait_for_peers = !stopping();
        call.items = 1;
        call.data = block;
        call.length = sizeof block;
        ring_result result = call_do(h, &call);
        if (result == RING_OK) {
            bool there = view && call.items != 0;
            uint64_t length = call.message.length;
            last = message_number(there ? call.message.data : block, length);
            mark(last, ARRIVED);
            check(newest[last / EACH] <= last, "a message out of order");
            newest[last / EACH] = last;
            if (there) {
                views.at[views.count] = call.message.at;
                views.length[views.count++] = length;
            }
        }
        __atomic_store_n(in_hand, 0, __ATOMIC_SEQ_CST);
        check(result == RING_OK || result == RING_TIMEOUT || result == RING_GONE
                  || result == RING_BUSY,
              "a receive fails");
        while (views.count > 0 && (result != RING_OK || below(3) == 0)) {
            give_back(h, &views);
        }
        if (result == RING_GONE) {
            break;
        }
    }
    free(newest);
}

/* -- lives and deaths ------------------------------------------------------------------------------ */

static pid_t
start(int place, uint64_t seed)
{
    pid_t pid = fork();
    check(pid >= 0, "no process");
    if (pid == 0) {
        handle own;
        seed_chance(seed);
        alarm(100);
        fuse = stopping() || below(3) == 0 ? 0 : 1 + (long)below(below(2) ? 40 : 600);
        handle_open(&own, &shared);
        own.spin = (uint32_t)below(2) * 50;
        if (place < SENDERS) {
            send_on(&own);
        } else {
            in_hand = &counted->in_hand[place];
            receive_on(&own);
        }
        fuse = 0;
        handle_close(&own);
        _exit(0);
    }
    return pid;
}

/* Waits until one of them is dead: its place. Kills one if none does it itself. */
static int
one_dies(pid_t pids[WORKERS])
{
    int status;
    pid_t pid = 0;
    for (uint64_t wait = 0; pid == 0 && wait < 1 + below(40); wait++) {
        usleep(100);
        pid = waitpid(-1, &status, WNOHANG);
    }
    if (pid == 0) {
        kill(pids[below(WORKERS)], SIGKILL);
        pid = waitpid(-1, &status, 0);
    }
    check(pid > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "a peer failed");
    int place = 0;
    while (pids[place] != pid) {
        place++;
    }
    return place;
}

static void
verify(uint64_t held)
{
    handle last;
    ring_space space;
    uint64_t sent = 0, lost = 0;
    for (uint64_t number = 0; number < (uint64_t)counted->lives * EACH; number++) {
        uint8_t state = counted->state[number];
        sent += (state & SENT) != 0;
        lost += (state & SENT) && !(state & ARRIVED);
    }
    check(lost <= held, "messages are lost");
    handle_open(&last, &shared);
    ring_call call = call_of(&last, op_send, 0);
    ring_check_peers_before_sleep(&last.r, &call, 0);
    check(ring_measure_space(&last.r, true, &space) == RING_OK
              && space.room == last.r.units && space.loans == 0 && space.queued == 0,
          "what the dead had is not free again");
    handle_close(&last);
    printf("%llu sent, %llu lost in %llu hands\n", (unsigned long long)sent,
           (unsigned long long)lost, (unsigned long long)held);
}

int
main(int argc, char **argv)
{
    uint64_t kills = argc > 1 ? (uint64_t)atol(argv[1]) : 200, seed = argc > 2 ? (uint64_t)atol(argv[2]) : 1;
    alarm(argc > 3 ? (unsigned)atoi(argv[3]) : 100); /* a hang is a failure */
    pid_t pids[WORKERS];
    uint64_t held_then = 0;
    seed_chance(seed);
    lives_most = 200000;
    counted = mmap(NULL, sizeof *counted + (size_t)lives_most * EACH, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(counted != MAP_FAILED, "no memory");
    shared = channel_make(160, 12, 0, 0);
    for (int i = 0; i < WORKERS; i++) {
        pids[i] = start(i, random_number());
    }
    for (uint64_t killed = 0; killed < kills; killed++) {
        int place = one_dies(pids);
        held_then += counted->in_hand[place];
        counted->in_hand[place] = 0;
        pids[place] = start(place, random_number());
    }
    __atomic_store_n(&counted->stop, 1, __ATOMIC_RELEASE);
    /* Who has yet to come by its point does so now, and is followed by one who does not. */
    for (int alive = WORKERS; alive > 0;) {
        int status, place = 0;
        pid_t pid = wait(&status);
        while (pids[place] != pid) {
            place++;
        }
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
            held_then += counted->in_hand[place];
            counted->in_hand[place] = 0;
            pids[place] = start(place, random_number());
            continue;
        }
        check(status == 0, "a peer failed");
        alive--;
    }
    verify(held_then);
    channel_unmake(&shared);
    puts("ok");
    return 0;
}
