/*  config_check.h - what a value of a variable must look like. Pure.

    Every check takes a value that is not empty, and two bounds: of the number
    for numbers, of the size in bytes for texts. It says whether the value will
    do; where the value means a number, *number receives it.
*/
#ifndef GUERDON_CONFIG_CHECK_H
#define GUERDON_CONFIG_CHECK_H

#include "proto/message.h"

typedef bool config_check (struct text text, int64_t min, int64_t max, int64_t *number);

/*  A decimal integer in canonical form: no "+", no leading zero, no fraction. */
config_check check_number;

/*  UTF-8 without control bytes. */
config_check check_name;

/*  UTF-8 without NUL: a secret may have anything else that JSON can carry. */
config_check check_secret;

/*  A name that usermeta stores under itself: A-Z a-z 0-9 _ . - */
config_check check_reward;

/*  What StatsD can carry in front of a name: no control bytes, ":", "|". */
config_check check_statsd_prefix;

/*  A host name, an IPv4 or an IPv6 address; the latter without brackets. */
config_check check_host;

/*  "http" or "https". */
config_check check_protocol;

/*  "/" and printable ASCII behind it, without "?" and "#". */
config_check check_prefix;

/*  A path: no control bytes. */
config_check check_path;

/*  An endpoint of ZeroMQ: tcp://host:port, ipc://path or inproc://name. */
config_check check_endpoint;

/*  Endpoints, separated by commas, at most 16. */
config_check check_endpoints;

/*  The name of a level, in any case; *number is enum log_level. */
config_check check_level;

/*  "json" or "text"; *number is enum log_format. */
config_check check_format;

#endif
