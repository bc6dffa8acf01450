/*  verdict.c - what an HTTP answer means. */

#include "include/verdict.h"

#include "include/mistake.h"
#include "proto/raw.h"

/*  A reason of the shell is shown up to here, a code of a service up to there. */
enum { DETAIL_SIZE_MAX = 160, CODE_SIZE_MAX = 48 };

/*  The 4xx that are not for good. Every other one says that the request itself
    is wrong, and it will not become right by itself; every status that is neither
    2xx nor 4xx says something about the service. */
static const struct {
    uint16_t status;
    enum verdict verdict;
} passing[] = {
    { 401, VERDICT_DENIED },    /* the secret may be changed on one side before the other */
    { 403, VERDICT_DENIED },    /* … and services do not agree on which of the two it is */
    { 408, VERDICT_FAILED },    /* the request came too slowly, which is the network's fault */
    { 425, VERDICT_FAILED },    /* it will not risk a replay, and asks for another attempt */
    { 429, VERDICT_SLOW_DOWN }, /* it is asked too often */
};

enum verdict verdict_of (const struct http_answer *answer)
{
    if (answer->outcome == HTTP_UNREACHED)
        return VERDICT_UNREACHED;
    if (answer->outcome != HTTP_ANSWERED)
        return VERDICT_FAILED;
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (answer->status == passing[i].status)
            return passing[i].verdict;
    if (answer->status >= 200 && answer->status < 300)
        return VERDICT_GOOD;
    bool refused = answer->status >= 400 && answer->status < 500 && !MISTAKE (RETRY_REFUSED);
    return refused ? VERDICT_REFUSED : VERDICT_FAILED;
}

bool verdict_overloaded (const struct http_answer *answer)
{
    if (answer->outcome != HTTP_ANSWERED)
        return answer->outcome == HTTP_TIMEOUT;
    return answer->status == 429 || answer->status == 503 || answer->status == 504;
}

void verdict_describe (struct builder *builder, const struct http_answer *answer)
{
    static const char *const names[] = {
        [HTTP_ANSWERED] = "HTTP ",
        [HTTP_UNREACHED] = "not reached",
        [HTTP_BROKEN] = "the connection broke",
        [HTTP_TIMEOUT] = "no answer in time",
        [HTTP_TOO_LARGE] = "a reply that is too large",
    };
    size_t known = sizeof names / sizeof *names;
    builder_literal (builder, (size_t) answer->outcome < known ? names[answer->outcome] : "no answer");
    if (answer->outcome == HTTP_ANSWERED) {
        builder_uint (builder, answer->status);
        if (verdict_of (answer) == VERDICT_GOOD)
            builder_literal (builder, " with a body that makes no sense");
    } else if (answer->reason.size) {
        builder_literal (builder, ": ");
        builder_printable (builder, answer->reason, DETAIL_SIZE_MAX);
    }
}

/*  True for what a programmer would call a name. */
static bool is_word (struct text text)
{
    if (text.size == 0 || text.size > CODE_SIZE_MAX)
        return false;
    for (uint32_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '_' && c != '-')
            return false;
    }
    return true;
}

void verdict_refusal (struct builder *builder, const struct http_answer *answer)
{
    verdict_describe (builder, answer);
    struct raw code;
    struct text word;
    if (answer->body_state == BODY_JSON && raw_find (answer->body, TEXT_LITERAL ("code"), &code) &&
        raw_text (code, &word) && is_word (word)) {
        builder_literal (builder, ": ");
        builder_add (builder, word);
    }
}
