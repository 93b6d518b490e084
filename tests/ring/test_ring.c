/* Many senders and receivers on one ring at the same time: threads for TSan, processes for ASan.

   Copies, batches, loans sent in any order or given up, views released in any order, a receiver that
   polls, two threads that share a handle; little memory, so that it is full, empty and at its end
   all the time. test_ring MESSAGES; exits 0, or says what was wrong. */
#include "ring_harness.h"

#include <poll.h>

#define SENDERS 3
#define RECEIVERS 3
#define HELD 4

typedef struct {
    uint32_t ready;
    uint32_t senders_left;
    uint64_t received;
    uint64_t dropped;
    uint8_t seen[]; /* by sender and number */
} tally;

static channel shared;
static tally *counted;
static size_t counted_size;
static uint64_t messages; /* of each sender */
static bool overwrite;

typedef struct {
    handle *h;
    uint64_t id;
    bool polls;
} worker;

/* -- senders --------------------------------------------------------------------------------------- */

static uint64_t
number_of(const worker *w, uint64_t sequence)
{
    return w->id << 32 | sequence;
}

static int64_t
soon(void)
{
    return monotonic_ns() + NS_PER_MS;
}

typedef struct {
    uint64_t at[HELD], length[HELD];
    int count;
} held;

/* Sends or gives up one of the loans: whether it was sent. */
static bool
end_a_loan(worker *w, held *loans, uint64_t sequence)
{
    int which = (int)below((uint64_t)loans->count--);
    uint64_t at = loans->at[which], length = loans->length[which];
    loans->at[which] = loans->at[loans->count];
    loans->length[which] = loans->length[loans->count];
    if (below(5) == 0) {
        check(cancel(w->h, at) == RING_OK, "a loan can't be given up");
        return false;
    }
    message_fill(ring_payload(&w->h->r, at, length), length, number_of(w, sequence));
    ring_call call = call_of(w->h, op_send_loan, INT64_MAX);
    call.at = at;
    call.length = length;
    call.items = w->h->r.owner;
    check(call_do(w->h, &call) == RING_OK, "a loan can't be sent");
    return true;
}

/* Sends some by copy: how many; 0 where there is no room while loans are held. */
static uint64_t
send_some(worker *w, uint64_t sequence, uint64_t left, bool patient)
{
    char block[6 * 400];
    bool batch = below(3) == 0;
    ring_call call = call_of(w->h, batch ? op_batch : op_send, patient ? INT64_MAX : soon());
    call.length = LEAST + below(batch ? 40 : below(8) == 0 ? 1200 : 90);
    call.items = batch ? 1 + below(left < 6 ? left : 6) : 1;
    call.data = block;
    for (uint64_t i = 0; i < call.items; i++) {
        message_fill(block + i * call.length, call.length, number_of(w, sequence + i));
    }
    ring_result result = call_do(w->h, &call);
    check(result == RING_OK || ((result == RING_TIMEOUT || result == RING_BUSY) && !patient),
          "a message can't be sent");
    return result == RING_OK ? call.items : 0;
}

static void *
send_all(void *of)
{
    worker *w = of;
    held loans = {.count = 0};
    seed_chance(w->id + 10);
    for (uint64_t sequence = 0; sequence < messages;) {
        if (loans.count < HELD && below(3) == 0) {
            ring_call call = call_of(w->h, op_lend, loans.count == 0 ? INT64_MAX : soon());
            call.length = LEAST + below(200);
            ring_result result = call_do(w->h, &call);
            check(result == RING_OK
                      || ((result == RING_TIMEOUT || result == RING_BUSY) && loans.count > 0),
                  "no loan");
            if (result == RING_OK) {
                loans.at[loans.count] = call.at;
                loans.length[loans.count++] = call.length;
                continue;
            }
        }
        uint64_t sent = loans.count > 0 && below(2) == 0
            ? end_a_loan(w, &loans, sequence)
            : send_some(w, sequence, messages - sequence, loans.count == 0);
        if (sent == 0 && loans.count > 0) {
            sent = end_a_loan(w, &loans, sequence); /* nobody waits with what others wait for */
        }
        sequence += sent;
    }
    while (loans.count > 0) {
        check(cancel(w->h, loans.at[--loans.count]) == RING_OK, "a loan can't be given up");
    }
    __atomic_fetch_sub(&counted->senders_left, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* -- receivers ------------------------------------------------------------------------------------- */

static void
got(uint64_t last[SENDERS], uint64_t number)
{
    uint64_t sender = number >> 32, sequence = number & UINT32_MAX;
    check(sender < SENDERS && sequence < messages, "a message that nobody sent");
    check(last[sender] == UINT64_MAX || sequence > last[sender], "a message out of order");
    last[sender] = sequence;
    uint8_t *seen = &counted->seen[sender * messages + sequence];
    check(__atomic_exchange_n(seen, 1, __ATOMIC_RELAXED) == 0, "a message came twice");
    __atomic_fetch_add(&counted->received, 1, __ATOMIC_RELAXED);
}

static void
give_back(worker *w, held *views, uint64_t numbers[HELD])
{
    int which = (int)below((uint64_t)views->count--);
    const char *data = ring_payload(&w->h->r, views->at[which], views->length[which]);
    check(message_number(data, views->length[which]) == numbers[which], "a view changed");
    check(release(w->h, views->at[which]) == RING_OK, "a view can't be released");
    views->at[which] = views->at[views->count];
    views->length[which] = views->length[views->count];
    numbers[which] = numbers[views->count];
}

/* As a program with poll(2) does it: until there is a message, or nobody
   is left who sends. */
static bool
wait_by_poll(ring_descriptors *d)
{
    ring *r = d->r;
    int fd = d->fd[0];
    struct pollfd one = {.fd = fd, .events = POLLIN};
    for (;;) {
        descriptor_update_items(d);
        bool over = __atomic_load_n(&counted->senders_left, __ATOMIC_SEQ_CST) == 0;
        if (poll(&one, 1, over ? 0 : 20) > 0) {
            return true;
        }
        if (over && !ring_has_items(r)) {
            return false;
        }
        check(!ring_has_items(r) || poll(&one, 1, 60000) > 0 || !ring_has_items(r),
              "a message waits, and the descriptor does not say so");
    }
}

static void *
receive_all(void *of)
{
    worker *w = of;
    char block[2000];
    held views = {.count = 0};
    uint64_t numbers[HELD], last[SENDERS];
    memset(last, 0xff, sizeof last);
    seed_chance(w->id + 20);
    ring_descriptors *poll_futex = w->polls ? descriptors_new(&w->h->r) : NULL;
    check(!w->polls || (poll_futex != NULL && descriptor_get(poll_futex, POLL_ITEMS) >= 0),
          "no descriptor to poll");
    for (;;) {
        if (w->polls && views.count == 0 && !wait_by_poll(poll_futex)) {
            break;
        }
        bool view = views.count < HELD && below(2) == 0;
        int64_t deadline = w->polls ? 0 : views.count > 0 ? soon() : INT64_MAX;
        ring_call call = call_of(w->h, view ? op_view : op_copy, deadline);
        call.wait_for_peers = false;
        call.items = 1 + below(5);
        call.data = block;
        call.length = sizeof block;
        ring_result result = call_do(w->h, &call);
        if (result == RING_OK && view && call.items != 0) {
            views.at[views.count] = call.message.at;
            views.length[views.count] = call.message.length;
            numbers[views.count] = message_number(call.message.data, call.message.length);
            got(last, numbers[views.count++]);
        } else if (result == RING_OK) {
            for (uint64_t i = 0; i < (view ? 1 : call.items); i++) {
                uint64_t length = call.message.length;
                got(last, message_number(block + i * length, length));
            }
        } else if (views.count == 0 && result == RING_GONE) {
            break;
        } else {
            check(result == RING_TIMEOUT || result == RING_EMPTY || result == RING_GONE
                      || result == RING_BUSY,
                  "a message can't be received");
            while (views.count > 0) {
                give_back(w, &views, numbers);
            }
        }
        if (views.count > 0 && below(3) == 0) {
            give_back(w, &views, numbers);
        }
    }
    if (poll_futex != NULL) {
        descriptors_free(poll_futex);
    }
    return NULL;
}

/* -- all of them ----------------------------------------------------------------------------------- */

static void
begin(uint64_t units, uint64_t capacity, bool overwriting)
{
    overwrite = overwriting;
    shared = channel_make(units, capacity, 0, overwrite ? CHANNEL_OVERWRITE : 0);
    counted_size = sizeof *counted + SENDERS * messages;
    counted = mmap(NULL, counted_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(counted != MAP_FAILED, "no memory");
    counted->senders_left = SENDERS;
}

static void
end(void)
{
    handle last;
    ring_space space;
    handle_open(&last, &shared);
    ring *r = &last.r;
    check(counted->received + r->shared->dropped == SENDERS * messages, "messages are lost");
    check(overwrite || r->shared->dropped == 0, "messages were dropped");
    check(ring_measure_space(r, true, &space) == RING_OK && space.room == r->units
              && space.queued == 0 && space.loans == 0,
          "there is something left in the ring");
    handle_close(&last);
    munmap(counted, counted_size);
    channel_unmake(&shared);
}

static void
test_threads(uint64_t units, uint64_t capacity, bool overwriting, uint32_t spin)
{
    static handle handles[SENDERS + RECEIVERS];
    worker workers[SENDERS + RECEIVERS];
    pthread_t threads[SENDERS + RECEIVERS];
    begin(units, capacity, overwriting);
    for (uint64_t i = 0; i < SENDERS + RECEIVERS; i++) {
        /* The last of each kind shares the handle of the one before. */
        bool shares = i == SENDERS - 1 || i == SENDERS + RECEIVERS - 1;
        workers[i] = (worker){&handles[shares ? i - 1 : i], i, i == SENDERS};
        if (!shares) {
            handle_open(&handles[i], &shared);
            handles[i].spin = spin;
            ring_add_role(&handles[i].r, i < SENDERS ? ROLE_SENDER : ROLE_RECEIVER);
        }
    }
    for (uint64_t i = 0; i < SENDERS + RECEIVERS; i++) {
        void *(*work)(void *) = i < SENDERS ? send_all : receive_all;
        check(pthread_create(&threads[i], NULL, work, &workers[i]) == 0, "no thread");
    }
    for (uint64_t i = 0; i < SENDERS + RECEIVERS; i++) {
        pthread_join(threads[i], NULL);
        if (i == SENDERS - 1) { /* the receivers end when the last sender leaves */
            for (int sender = 0; sender < SENDERS - 1; sender++) {
                handle_close(&handles[sender]);
            }
        }
    }
    for (int i = SENDERS; i < SENDERS + RECEIVERS - 1; i++) {
        handle_close(&handles[i]);
    }
    end();
}

static void
run_process(uint64_t id, uint32_t spin)
{
    handle own;
    worker w = {&own, id, id == SENDERS};
    handle_open(&own, &shared);
    own.spin = spin;
    ring_add_role(&own.r, id < SENDERS ? ROLE_SENDER : ROLE_RECEIVER);
    __atomic_fetch_add(&counted->ready, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&counted->ready, __ATOMIC_SEQ_CST) < SENDERS + RECEIVERS) {
        usleep(100);
    }
    (id < SENDERS ? send_all : receive_all)(&w);
    handle_close(&own);
    _exit(0);
}

static void
test_processes(uint64_t units, uint64_t capacity, bool overwriting, uint32_t spin)
{
    begin(units, capacity, overwriting);
    for (uint64_t id = 0; id < SENDERS + RECEIVERS; id++) {
        pid_t pid = fork();
        check(pid >= 0, "no process");
        if (pid == 0) {
            run_process(id, spin);
        }
    }
    for (int i = 0; i < SENDERS + RECEIVERS; i++) {
        int status;
        check(wait(&status) > 0 && status == 0, "a process failed");
    }
    end();
}

int
main(int argc, char **argv)
{
    messages = argc > 1 ? (uint64_t)atol(argv[1]) : 2000;
    alarm(argc > 2 ? (unsigned)atoi(argv[2]) : 100); /* a hang is a failure */
    for (uint32_t spin = 0; spin <= 100; spin += 100) {
        test_threads(128, 20, false, spin);
        test_threads(515, 200, false, spin);
        test_threads(128, 20, true, spin);
        test_processes(128, 20, false, spin);
        test_processes(515, 200, true, spin);
    }
    puts("ok");
    return 0;
}
