/*  sandbox_env.h - the configuration of a running sandbox, left in a file. */
#ifndef GUERDON_SANDBOX_ENV_H
#define GUERDON_SANDBOX_ENV_H

#include "actors/base/config.h"

/*  Writes STATE_DIR/sandbox.env (0600) with the variables that reach the
    sandbox on this port, so that `guerdon emit` and other shells find it.
    False with a reason that names the file. */
bool sandbox_env_write (const struct config *config, uint16_t port, char *reason, size_t reason_size);

#endif
