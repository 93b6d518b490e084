/* Rounds of a test of deaths at named points. */
#ifndef RING_ROUNDS_H
#define RING_ROUNDS_H

#include "ring_death.h"

/* Chooses whether and where a peer dies in its next step: at the next point, or some points later; or at
   one of those that few steps come to. */
static void
choose_death(uint64_t danger, uint64_t near)
{
    fuse = below(danger) == 0 ? 1 + (long)below(near) : 0;
    fatal = below(4) == 0 ? points[below(64)].name : NULL;
}

/* Checks the result of a step of a peer that did not die. */
static void
check_survivor(ring_result result)
{
    check(result == RING_OK || result == RING_EMPTY || result == RING_FULL || result == RING_TIMEOUT,
          result == RING_CORRUPT ? "a survivor was told of corruption"
                                 : "a survivor waits for a dead peer");
}

/* Runs a test with the arguments ROUNDS SEED SECONDS, and prints how many peers died at each point. */
static void
run_rounds(void (*play)(uint64_t seed), int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 200, seed = argc > 2 ? atol(argv[2]) : 1;
    alarm(argc > 3 ? (unsigned)atoi(argv[3]) : 60); /* a hang is a failure */
    for (long round = 0; round < rounds; round++) {
        fprintf(stderr, "seed %ld\r", seed + round);
        play((uint64_t)(seed + round));
    }
    for (int i = 0; points[i].name != NULL; i++) {
        printf("%s %llu\n", points[i].name, (unsigned long long)points[i].deaths);
    }
    printf("deaths %llu\nok\n", (unsigned long long)deaths);
}

#endif
