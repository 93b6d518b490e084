/* Calls on blocks as the binding makes them: loans, views and messages to be acknowledged. */
#ifndef BLOCK_CALLS_H
#define BLOCK_CALLS_H

#include "scenario.h"

/* -- senders ---------------------------------------------------------------------------------------- */

/* Lends memory for a message (native/channel/loan.c). */
ring_result block_lend(ring *r, uint64_t length, int64_t deadline, uint32_t *block);

/* Writes a message into a loan and sends it (native/channel/holder.c). If that fails, the loan stays. */
ring_result block_send(ring *r, uint32_t block, int number, uint64_t length, int64_t deadline);

/* Sends a message in a block of its own (native/channel/send.c). The sender is this thread. */
ring_result block_send_new(ring *r, int number, uint64_t length, int64_t deadline);

/* -- receivers -------------------------------------------------------------------------------------- */

/* Takes the next message: reads it in place if it is in a block, otherwise copies it (native/channel/loan.c).
   Checks it and notes it. */
ring_result block_view(ring *r, int64_t deadline, ring_message *message);

/* Checks that the bytes of a view are still those of a whole message. Does nothing for a copy. */
void block_check_view(const ring *r, const ring_message *message);

/* Checks a view, and frees its block. */
void block_end_view(ring *r, const ring_message *message);

/* block_view and block_end_view. */
ring_result block_receive(ring *r, int64_t deadline);

/* -- messages to be acknowledged: noted once they are ------------------------------------------------ */

/* Takes the next message, after it returned what dead peers had taken (native/channel/delivery.c). */
ring_result block_deliver(ring *r, int64_t deadline, ring_message *message);

/* Returns the number in a message that was taken, after a check of its bytes. */
int block_number(const ring *r, const ring_message *message);

/* Acknowledges a message that was taken, reads it once more and frees its block. */
void block_acknowledge(ring *r, const ring_message *message);

/* Returns how many messages dead threads were acknowledging. Those may be lost. */
int block_half_acknowledged(void);

/* -- the world -------------------------------------------------------------------------------------- */

/* world_begin, and clears what this file notes. */
void block_begin(void);

/* Lets a peer that is no thread die, for `prepare`. */
void block_kill(int peer);

#endif
