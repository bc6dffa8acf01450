/*  sim_usermeta.c - the usermeta service: strings by user and key, read as they
    were written. */

#include "tests/sim/sim.h"

#include <stdio.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/text.h"

enum { USERS_A_REQUEST_MAX = 201, TOKEN_MAX = 64 };

#define TOKEN_START "{secret}."
#define PROBE_USER "guerdon-probe"

static void pack_values (struct sim *sim, const char *id, struct packer *packer)
{
    const struct user *user = user_named (sim, id);
    bool auth = user && user->kind != USER_NO_AUTH;
    bool probe = sim->probed && strcmp (id, PROBE_USER) == 0;
    bool marker = probe || (user && user->marked);
    pack_map (packer, (uint32_t) auth + (uint32_t) marker);
    if (auth) {
        pack_literal (packer, "auth");
        pack_literal (packer, user->kind == USER_EMPTY ? "" : "1490999999000");
    }
    if (marker) {
        pack_literal (packer, "$reward$promo");
        pack_literal (packer, probe ? "1490999999000" : user->marker);
    }
}

/*  Reads of a list of users. The list is taken apart at its commas, as the real
    service does. */
static void serve_list (struct sim *sim, struct call *call, char *list)
{
    const char *names[USERS_A_REQUEST_MAX];
    uint32_t count = 0;
    for (char *at = list; at && count < USERS_A_REQUEST_MAX;) {
        char *comma = strchr (at, ',');
        if (comma)
            *comma = '\0';
        names[count++] = at;
        at = comma ? comma + 1 : NULL;
    }
    uint8_t memory[32 * 1024];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, count);
    for (uint32_t i = 0; i < count; i++) {
        pack_literal (&packer, names[i]);
        if (call->fate == FATE_DENIED)
            pack_map (&packer, 0);
        else
            pack_values (sim, names[i], &packer);
    }
    set_answer (call, 200, &packer);
}

static void serve_write (struct sim *sim, struct call *call, const char *id, const char *key)
{
    struct user *user = user_named (sim, id);
    struct raw found;
    struct text value;
    if (!raw_find ((struct raw){ call->body, call->body_size }, TEXT_LITERAL ("value"), &found) ||
        !raw_text (found, &value)) {
        set_status (call, 400);
        return;
    }
    if (user && strcmp (key, "$reward$promo") == 0) {
        snprintf (user->marker, sizeof user->marker, "%.*s", (int) value.size, value.data);
        user->marked = true;
        check_marked (sim, user);
        trace_line (sim, NULL, "usermeta: the marker of %s is written", id);
    }
    sim->probed |= strcmp (id, PROBE_USER) == 0 && strcmp (key, "$reward$promo") == 0;
    uint8_t memory[4];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, 0);
    set_answer (call, 200, &packer);
}

void usermeta_serve (struct sim *sim, struct call *call)
{
    char first[8 * 1024], second[TOKEN_MAX], third[64];
    path_part (call->path, 0, first, sizeof first);
    path_part (call->path, 1, second, sizeof second);
    path_part (call->path, 2, third, sizeof third);
    if (strcmp (first, "auth") != 0) {
        serve_list (sim, call, first);
        return;
    }
    if (call->fate == FATE_DENIED || strncmp (second, TOKEN_START, strlen (TOKEN_START)) != 0) {
        set_status (call, 401);
        return;
    }
    const char *id = second + strlen (TOKEN_START);
    if (call->method == METHOD_POST) {
        serve_write (sim, call, id, third);
        return;
    }
    uint8_t memory[1024];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, 1);
    pack_literal (&packer, id);
    pack_values (sim, id, &packer);
    set_answer (call, 200, &packer);
}
