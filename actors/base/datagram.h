/*  datagram.h - a UDP socket towards one host, for StatsD. */
#ifndef GUERDON_DATAGRAM_H
#define GUERDON_DATAGRAM_H

#include "proto/message.h"

/*  A socket that sends to host:port; -1 with a reason when there is no such
    host or no socket. To be closed by the caller. */
int datagram_open (const char *host, uint16_t port, char *reason, size_t reason_size);

/*  Sends, without blocking. False when the system refused; a datagram that
    nobody receives is no error. */
bool datagram_send (int socket, struct text payload);

#endif
