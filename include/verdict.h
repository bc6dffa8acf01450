/*  verdict.h - what an HTTP answer means to whoever asked. Pure. */
#ifndef GUERDON_VERDICT_H
#define GUERDON_VERDICT_H

#include "proto/message.h"
#include "proto/text.h"

enum verdict {
    VERDICT_GOOD,      /* 2xx */
    VERDICT_REFUSED,   /* 4xx, but those below: asking again would not help */
    VERDICT_DENIED,    /* 401, 403: the secret, or a request that looks like it */
    VERDICT_SLOW_DOWN, /* 429 */
    VERDICT_UNREACHED, /* the service did not see the request */
    VERDICT_FAILED     /* anything else: 5xx, 408, 425, 3xx, broken, timeout, too large */
};

/*  Status and outcome decide; the body does not count. Only VERDICT_REFUSED is
    for good; everything but it and VERDICT_GOOD is tried again. */
enum verdict verdict_of (const struct http_answer *answer);

/*  True for what a service answers, or does not, that has too much to do: 429,
    503, 504, no answer in time. */
bool verdict_overloaded (const struct http_answer *answer);

/*  Appends what happened, for people: "HTTP 500", "no answer in time". */
void verdict_describe (struct builder *builder, const struct http_answer *answer);

/*  Appends why a request was refused: "HTTP 400: InvalidContent". Of the reply
    only its `code` is shown, and only if it is a plain word: services echo
    paths and bodies in their messages, and those hold the secret. */
void verdict_refusal (struct builder *builder, const struct http_answer *answer);

#endif
