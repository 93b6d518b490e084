/* Many senders and receivers on one ring at the same time: threads for TSan, processes for ASan.

   Copies, batches, loans sent in any order or cancelled, views released in any order, messages
   acknowledged or returned in any order, a receiver that polls, two threads that share a handle; little
   memory, so that it is full, empty and at its end all the time. test_ring MESSAGES SECONDS; exits 0, or
   says what was wrong. */
#include "ring_traffic.h"

static void
begin(ring_shape shape, bool overwriting)
{
    overwrite = overwriting;
    shared = channel_make(shape, overwrite ? CHANNEL_OVERWRITE : 0);
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
              && space.queued == 0,
          "there is something left in the ring");
    for (uint64_t at = 0; at < r->granules; at++) {
        check(r->words[at] == BLOCK_FREE, "a block is leaked");
    }
    handle_close(&last);
    munmap(counted, counted_size);
    channel_unmake(&shared);
}

static void
test_threads(ring_shape shape, bool overwriting, uint32_t spin)
{
    static handle handles[SENDERS + RECEIVERS];
    worker workers[SENDERS + RECEIVERS];
    pthread_t threads[SENDERS + RECEIVERS];
    begin(shape, overwriting);
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
test_processes(ring_shape shape, bool overwriting, uint32_t spin)
{
    begin(shape, overwriting);
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
        ring_shape little = shape_of_any(128, 60, 20), more = shape_of_any(515, 200, 200);
        test_threads(little, false, spin);
        test_threads(more, false, spin);
        test_threads(little, true, spin);
        test_processes(little, false, spin);
        test_processes(more, true, spin);
    }
    puts("ok");
    return 0;
}
