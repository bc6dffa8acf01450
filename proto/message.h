/*  message.h - messages as C values, made from messages.def.

    For every message `name` there is a struct of that name, a member of that
    name in struct message, and a constant MESSAGE_NAME. Texts and raw objects
    are views: they point into memory that somebody else owns and are valid
    for as long as the function that was handed them runs, no longer.
*/
#ifndef GUERDON_MESSAGE_H
#define GUERDON_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

/*  Bytes that somebody else owns; not terminated, may hold NULs. */
struct text {
    const char *data;  /* NULL only when size is 0 */
    uint32_t size;     /* bytes */
};

/*  One whole msgpack object, as bytes that somebody else owns. Size 0 reads
    as nil. */
struct raw {
    const uint8_t *data;
    uint32_t size;  /* bytes */
};

/*  A text from a string literal, and from a terminated string. */
#define TEXT_LITERAL(literal) ((struct text){ (literal), (uint32_t) sizeof (literal) - 1 })
#define NO_TEXT ((struct text){ NULL, 0 })
#define NO_RAW ((struct raw){ NULL, 0 })

/*  msgpack ext types with a meaning here: the place of a secret in a body that
    goes out, and the place of something that was left out of a body that came
    in (one byte: enum fault). */
enum { EXT_SECRET = 1, EXT_CUT = 2 };

/*  Enums of the language: enum name { CONSTANT = number, … }. */
#define ENUM(name, doc) enum name {
#define VALUE(constant, number, text, doc) constant = (number),
#define ENUM_END(name) };
#define PLAIN(id, NAME, name, route, doc)
#define BATCH(id, NAME, name, route, doc)
#define UINT(name, member, max, doc)
#define INT(name, member, doc)
#define CHOICE(name, member, of, doc)
#define TEXT(name, member, max, doc)
#define RAW(name, member, max, doc)
#define END(name)
#include "proto/messages.def"
#undef ENUM
#undef VALUE
#undef ENUM_END
#undef PLAIN
#undef BATCH
#undef UINT
#undef INT
#undef CHOICE
#undef TEXT
#undef RAW
#undef END

/*  Structs: one field a line of the table. C wants a member in every struct,
    so each begins with an unused byte that the codec does not see. */
#define ENUM(name, doc)
#define VALUE(constant, number, text, doc)
#define ENUM_END(name)
#define PLAIN(id, NAME, name, route, doc) struct name { char no_field;
#define BATCH(id, NAME, name, route, doc) struct name { char no_field;
#define UINT(name, member, max, doc) uint64_t member;
#define INT(name, member, doc) int64_t member;
#define CHOICE(name, member, of, doc) enum of member;
#define TEXT(name, member, max, doc) struct text member;
#define RAW(name, member, max, doc) struct raw member;
#define END(name) };
#include "proto/messages.def"
#undef PLAIN
#undef BATCH
#undef UINT
#undef INT
#undef CHOICE
#undef TEXT
#undef RAW
#undef END

/*  enum message_id { MESSAGE_OPEN = 1, … }. */
#define PLAIN(id, NAME, name, route, doc) MESSAGE_##NAME = (id),
#define BATCH(id, NAME, name, route, doc) MESSAGE_##NAME = (id),
#define UINT(name, member, max, doc)
#define INT(name, member, doc)
#define CHOICE(name, member, of, doc)
#define TEXT(name, member, max, doc)
#define RAW(name, member, max, doc)
#define END(name)
enum message_id {
#include "proto/messages.def"
    MESSAGE_ID_MAX = 127
};

/*  Ids from here on are local to a process. */
enum { MESSAGE_LOCAL_MIN = 64 };
#undef PLAIN
#undef BATCH
#undef END

/*  Where a message comes from or goes to: a role and, where a role runs more
    than once, which of them as the shell counts its peers, from 0. */
struct address {
    enum role role;
    uint16_t peer;
};

/*  The shell's own address. */
#define TO_SHELL ((struct address){ ROLE_SHELL, 0 })

/*  One message, or one item of a batch. */
#define PLAIN(id, NAME, name, route, doc) struct name name;
#define BATCH(id, NAME, name, route, doc) struct name name;
#define END(name)
struct message {
    enum message_id id;
    uint64_t trace;       /* follows one event from page to reward; 0 for none */
    struct address from;  /* filled in by the shell; not on the wire */
    union {
#include "proto/messages.def"
    };
};
#undef PLAIN
#undef BATCH
#undef UINT
#undef INT
#undef CHOICE
#undef TEXT
#undef RAW
#undef END
#undef ENUM
#undef VALUE
#undef ENUM_END

/*  ---- the table at run time ---------------------------------------------- */

enum field_type { FIELD_UINT, FIELD_INT, FIELD_CHOICE, FIELD_TEXT, FIELD_RAW };

/*  One value of an enum of the language. */
struct enum_value {
    const char *constant;
    uint64_t number;
    const char *name;  /* as it shows in logs, taps and documents */
    const char *doc;
};

struct enum_spec {
    const char *name;
    const char *doc;
    const struct enum_value *values;
    size_t count;
};

struct field_spec {
    enum field_type type;
    const char *name;
    const char *doc;
    const struct enum_spec *choice;  /* FIELD_CHOICE only */
    uint64_t max;                    /* greatest value, or size in bytes */
    size_t offset;                   /* within struct message */
};

struct message_spec {
    enum message_id id;
    bool batch;
    const char *name;   /* lower case, as it shows in taps */
    const char *route;  /* who sends it to whom */
    const char *doc;
    const struct field_spec *fields;
    size_t count;
};

/*  The description of a message, or NULL when the id means nothing here. */
const struct message_spec *message_spec (uint64_t id);

/*  Every enum of the language, in the table's order; *count receives how
    many. */
const struct enum_spec *const *enum_specs (size_t *count);

/*  The value of an enum with this number, or NULL. */
const struct enum_value *enum_value (const struct enum_spec *spec, uint64_t number);

/*  Names for logs and documents; "?" for a number outside the enum. */
const char *role_name (enum role role);
const char *fault_name (enum fault fault);
const char *outcome_name (enum outcome outcome);
const char *counter_name (enum counter counter);
const char *service_name (enum service service);
const char *service_state_name (enum service_state state);
const char *method_name (enum method method);
const char *http_outcome_name (enum http_outcome outcome);
const char *body_state_name (enum body_state state);
const char *grant_state_name (enum grant_state state);
const char *peer_state_name (enum peer_state state);
const char *log_level_name (enum log_level level);
const char *gauge_name (enum gauge gauge);

#endif
