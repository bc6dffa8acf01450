/*  status.h - the status pages of a process, over HTTP.

    GET and HEAD of /about, /ping/:token (both also below /rewards/v1), /health,
    /ready and /metrics (reference: monitoring endpoints).
*/
#ifndef GUERDON_STATUS_H
#define GUERDON_STATUS_H

#include "actors/base/monitor.h"

struct status;

/*  Binds and serves; port 0 lets the system choose. NULL with a reason that
    names the address. The monitor outlives it. */
struct status *status_new (const char *host, uint16_t port, struct monitor *monitor, char *reason,
                           size_t reason_size);
void status_destroy (struct status **status);

/*  The port it is bound to. */
uint16_t status_port (const struct status *status);

#endif
