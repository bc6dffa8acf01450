/*  sandbox.h - the three services the worker talks to, embedded.

    Events, usermeta and virtualcurrency with the wire format of the real ones
    (reference: ganomede), on one HTTP port of 127.0.0.1 under their usual
    prefixes, kept in SQLite below the state directory. For development and
    demonstration; the actors reach it over HTTP like any other service. It
    also plays the users service a little: a LOGIN event from app 1 sets that
    user's "auth" in usermeta, as a real log-in does.
*/
#ifndef GUERDON_SANDBOX_H
#define GUERDON_SANDBOX_H

#include <stddef.h>
#include <stdint.h>

struct sandbox;

struct sandbox_options {
    const char *state_dir; /* holds sandbox.db; must exist */
    const char *api_secret;
    const char *app_1_name;
    uint16_t port;            /* 0: the system chooses */
    uint32_t poll_timeout_ms; /* of a long poll; 5000 as deployed */
};

/*  Opens the data and starts to serve; NULL with a reason. */
struct sandbox *sandbox_new (const struct sandbox_options *options, char *reason, size_t reason_size);
void sandbox_destroy (struct sandbox **sandbox);

/*  The port it is bound to. */
uint16_t sandbox_port (const struct sandbox *sandbox);

#endif
