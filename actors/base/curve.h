/*  curve.h - who may connect over tcp: CURVE keys and an allow-list.

    Encrypts and authenticates tcp sockets of a context by the certificates of a
    directory (keyring.h). A thread of its own answers ZeroMQ's question who is
    let in (ZAP), counts and tells who was refused, and reads the certificates
    again when the directory changes.

    What a key is good for comes from the table in keyring.c. A message that
    comes in over such a socket has the property "User-Id": the role that its
    sender's key belongs to.
*/
#ifndef GUERDON_CURVE_H
#define GUERDON_CURVE_H

#include "actors/base/keyring.h"
#include "actors/base/monitor.h"

enum {
    CURVE_SOCKETS_MAX = 160, /* of one context */
    CURVE_REREAD_MS = 1000   /* between two looks at the directory */
};

struct curve;

/*  Loads the certificates that these parties need (PARTY_BIT of each role that
    has a tcp socket here, of PARTY_MIRROR when this process' tap is at a tcp
    endpoint, of PARTY_TAP for a command that taps), and starts the thread. One
    a context. NULL with a reason that names the file and what was expected. */
struct curve *curve_open (void *context, const char *directory, unsigned parties, char *reason,
                          size_t reason_size);

/*  Where refusals are counted; before the first socket. May be left out. */
void curve_report (struct curve *curve, struct monitor *monitor);

/*  Makes a socket one that others with the right keys may connect to, before it
    is bound. The domain is the role that is bound, or "tap". From the socket's
    thread. False with errno: EINVAL when the party is not among those opened,
    EMFILE for too many sockets, or as ZeroMQ says. */
bool curve_server (struct curve *curve, void *socket, const char *domain);

/*  Makes a socket one that connects as `own` (a role, or "tap") to `server` (a
    role, or "tap"), before it is connected, to one endpoint of tcp and no more:
    keys are a socket's, also on ipc, and are renewed for one. As above. */
bool curve_client (struct curve *curve, void *socket, const char *own, const char *server);

/*  To be called by the socket's thread about once a second: binds or connects it
    anew when its keys have changed, or when a handshake failed in a way after
    which ZeroMQ does not try again. Else it does nothing. What was
    under way on the connection may be lost. False when it could not be bound
    just yet; the next call tries again. */
bool curve_renew (struct curve *curve, void *socket);

/*  Counts a message whose sender was let in, and claims to be another role than
    its User-Id says. From any thread. */
void curve_false_claim (struct curve *curve);

/*  Ends the thread and wipes the keys. Every socket must be closed before, the
    context ended after. */
void curve_close (struct curve **curve);

/*  Whether an endpoint may be used: tcp beyond loopback needs CURVE, unless
    plaintext is allowed. When it is true and the reason is not empty, the
    reason is a warning to be told at every start. */
bool curve_endpoint_allowed (const char *endpoint, bool curve, bool allow_plaintext, char *reason,
                             size_t reason_size);

#endif
