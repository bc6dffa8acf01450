/*  misbehaving.h - an HTTP server for tests that does as it is told, also badly.

    It listens on a loopback port that the system chooses and gives each
    connection a thread. The n-th request, on whatever connection, gets the n-th
    step of its script; later ones get the last step again.
*/
#ifndef GUERDON_MISBEHAVING_H
#define GUERDON_MISBEHAVING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum misbehaviour {
    STEP_ANSWER,         /* as it should */
    STEP_CHUNKED,        /* in chunks of one byte */
    STEP_SLOW,           /* a byte at a time, with pauses of a millisecond */
    STEP_LEAVE,          /* answers, then closes without having said so */
    STEP_CLOSE,          /* closes without a reply */
    STEP_CLOSE_LATE,     /* closes without a reply, after half a second */
    STEP_RESET,          /* resets the connection without a reply */
    STEP_HANG,           /* never answers */
    STEP_HALF_HEADER,    /* closes in the middle of the header */
    STEP_HANG_IN_BODY,   /* promises twice the body, sends it once and hangs */
    STEP_LONG_LENGTH,    /* promises twice the body, sends it once and closes */
    STEP_SHORT_LENGTH,   /* promises half the body; the other half comes a little later */
    STEP_HALF_CHUNK,     /* closes within a chunk */
    STEP_HUGE_LENGTH,    /* promises 1 TB */
    STEP_ENDLESS_BODY,   /* repeats the body without end */
    STEP_ENDLESS_HEADER, /* header lines without end */
    STEP_OWN_HEADER, /* `headers` are all there is before the body, from the first line to the empty one */
    STEP_GARBAGE     /* something that is not HTTP */
};

struct misbehaving_step {
    enum misbehaviour how;
    unsigned status;     /* 0: 200 */
    const char *headers; /* more header lines, each ending in "\r\n"; may be NULL */
    const char *body;    /* may be NULL */
};

enum { MISBEHAVING_REQUESTS_MAX = 4096, MISBEHAVING_CONNECTIONS_MAX = 256 };

struct misbehaving;

/*  Starts a server; the script is copied, its strings must outlive the server.
    Ends the test program when it cannot. */
struct misbehaving *misbehaving_new (const struct misbehaving_step *steps, size_t count);

/*  Drops every connection and waits for the threads. */
void misbehaving_destroy (struct misbehaving **server);

uint16_t misbehaving_port (const struct misbehaving *server);

/*  Requests that came whole, and connections made, so far. */
size_t misbehaving_requests (struct misbehaving *server);
size_t misbehaving_connections (struct misbehaving *server);

/*  Waits until so many requests came whole; false when time is up. */
bool misbehaving_wait (struct misbehaving *server, size_t count, unsigned timeout_ms);

/*  Waits until so many steps were taken to their end. */
bool misbehaving_wait_taken (struct misbehaving *server, size_t count, unsigned timeout_ms);

/*  The n-th request as it came, from 0: header, empty line, body. Valid until
    the server is destroyed; NULL when it has not come. */
const char *misbehaving_request (struct misbehaving *server, size_t n);

#endif
