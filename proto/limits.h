/*  limits.h - every bound of the language, by name.

    Nothing in guerdon grows without one of these. Sizes are bytes of the
    encoded form unless the name says otherwise. A limit is part of the
    language: both ends of a hop must agree on it, so raising one is a change
    of the protocol and lowering one is forbidden.
*/
#ifndef GUERDON_LIMITS_H
#define GUERDON_LIMITS_H

/*  Versions of the wire format that this binary speaks. What a session carries
    is in the newest that both its ends speak; all else in the oldest, which more
    can read. A number below 128. A test builds programs of later versions, which
    have what this one cannot know: fields behind those of the table, and bits of
    HELLO. */
#ifndef PROTOCOL_MAX
#define PROTOCOL_MIN 1
#define PROTOCOL_MAX 1
#define PROTOCOL_FIELDS_MORE 0
#define PROTOCOL_CAPABILITIES 0
#endif

/*  The version that messages are encoded in: the first element of each. */
#define PROTOCOL_VERSION PROTOCOL_MIN

/*  A whole encoded message: one ZeroMQ frame. */
#define MESSAGE_SIZE_MAX (1024 * 1024)

/*  Items in one batch message. */
#define BATCH_ITEMS_MAX 1024

/*  A batch is closed and sent once it holds this much, so that one item of
    the largest size still fits below MESSAGE_SIZE_MAX. */
#define BATCH_SIZE_SOFT_MAX (512 * 1024)

/*  The largest integer that JSON carries exactly: 2^53 - 1. Event ids above
    it cannot be told apart by the services (reference: events, `after`). */
#define POSITION_MAX UINT64_C (9007199254740991)

/*  A user id. 7,000 characters are known to work on the wire. */
#define USER_SIZE_MAX 8000

/*  Names: event types, app names, currencies, keys. */
#define NAME_SIZE_MAX 255

/*  A reward id, and the usermeta key made from it ("$reward$" + id). */
#define REWARD_SIZE_MAX 200
#define KEY_SIZE_MAX (REWARD_SIZE_MAX + 16)

/*  The keys of one read, comma separated. */
#define KEYS_SIZE_MAX (2 * KEY_SIZE_MAX)

/*  A usermeta value that guerdon writes or reads. */
#define VALUE_SIZE_MAX 4096

/*  Event data, as raw msgpack: bytes, keys of one map (or elements of one
    array), levels of nesting below the event. */
#define DATA_SIZE_MAX (64 * 1024)
#define DATA_KEYS_MAX 1024
#define DATA_DEPTH_MAX 32

/*  Nesting that a decoder follows before it refuses the bytes: event data
    inside an event, inside a page. */
#define RAW_DEPTH_MAX (DATA_DEPTH_MAX + 8)

/*  A reason or a log line. */
#define REASON_SIZE_MAX 255
#define LOG_SIZE_MAX 1023

/*  HTTP: a request path with its query (every byte of a user id may take
    three on the wire, and a request names a user once, plus keys), a request
    body in msgpack, a reply as it comes, and a reply as raw msgpack. */
#define PATH_SIZE_MAX (3 * USER_SIZE_MAX + 3 * KEYS_SIZE_MAX + 1024)
#define REQUEST_BODY_SIZE_MAX (USER_SIZE_MAX + VALUE_SIZE_MAX + 4096)
#define REPLY_BYTES_MAX (16 * 1024 * 1024)
#define REPLY_SIZE_MAX (8 * 1024 * 1024)

/*  A request that names many users stops growing its path here: servers take
    8 kB of request line and headers at least, and the prefix and host come on
    top. */
#define PATH_LIST_SIZE_MAX 4000

/*  A datagram of counters: below the smallest MTU that is common. */
#define DATAGRAM_SIZE_MAX 1400

/*  Events in flight at most: the upper bound of the variable WINDOW. */
#define WINDOW_MAX 1000000

/*  The number of a grant in its journal: what SQLite takes as a row id. */
#define GRANT_MAX INT64_MAX

/*  How long to wait before a reward is looked for, in ms: an hour. */
#define CHECK_MAX 3600000

/*  Timers of one actor. */
#define TIMERS_MAX 8

#endif
