/*  message.c - names and descriptors, made from messages.def. */

#include "proto/message.h"

/*  ---- enums -------------------------------------------------------------- */

#define PLAIN(id, NAME, name, route, doc)
#define BATCH(id, NAME, name, route, doc)
#define UINT(name, member, max, doc)
#define INT(name, member, doc)
#define CHOICE(name, member, of, doc)
#define TEXT(name, member, max, doc)
#define RAW(name, member, max, doc)
#define END(name)

#define ENUM(name, doc) static const struct enum_value name##_values[] = {
#define VALUE(constant, number, text, doc) { #constant, (number), (text), (doc) },
#define ENUM_END(name) \
    }                  \
    ;
#include "proto/messages.def"
#undef ENUM
#undef VALUE
#undef ENUM_END

#define ENUM(name, doc)                               \
    static const struct enum_spec name##_enum = {     \
        #name, (doc), name##_values,                  \
        sizeof (name##_values) / sizeof (*name##_values) \
    };
#define VALUE(constant, number, text, doc)
#define ENUM_END(name)
#include "proto/messages.def"
#undef ENUM

#define ENUM(name, doc) &name##_enum,
static const struct enum_spec *const all_enums[] = {
#include "proto/messages.def"
};
#undef ENUM
#undef VALUE
#undef ENUM_END

const struct enum_spec *const *enum_specs (size_t *count)
{
    *count = sizeof (all_enums) / sizeof (*all_enums);
    return all_enums;
}

const struct enum_value *enum_value (const struct enum_spec *spec, uint64_t number)
{
    /*  Most enums count from 0, so the number is usually the place. */
    if (number < spec->count && spec->values[number].number == number)
        return &spec->values[number];
    for (size_t i = 0; i < spec->count; i++)
        if (spec->values[i].number == number)
            return &spec->values[i];
    return NULL;
}

#define NAME_OF(function, of)                                               \
    const char *function (enum of number)                                   \
    {                                                                       \
        const struct enum_value *value = enum_value (&of##_enum, (uint64_t) number); \
        return value ? value->name : "?";                                   \
    }
NAME_OF (role_name, role)
NAME_OF (fault_name, fault)
NAME_OF (outcome_name, outcome)
NAME_OF (counter_name, counter)
NAME_OF (service_name, service)
NAME_OF (service_state_name, service_state)
NAME_OF (method_name, method)
NAME_OF (http_outcome_name, http_outcome)
NAME_OF (body_state_name, body_state)
NAME_OF (grant_state_name, grant_state)
NAME_OF (peer_state_name, peer_state)
NAME_OF (log_level_name, log_level)
NAME_OF (gauge_name, gauge)

/*  ---- messages ----------------------------------------------------------- */

#define ENUM(name, doc)
#define VALUE(constant, number, text, doc)
#define ENUM_END(name)
#undef PLAIN
#undef BATCH
#undef UINT
#undef INT
#undef CHOICE
#undef TEXT
#undef RAW
#undef END

/*  One array of fields a message, each ended by an empty one, since C has no
    empty arrays and some messages have no fields. */
#define PLAIN(id, NAME, name, route, doc) static const struct field_spec name##_fields[] = {
#define BATCH(id, NAME, name, route, doc) static const struct field_spec name##_fields[] = {
#define FIELD(kind, of, member, choice, max, doc) \
    { (kind), #member, (doc), (choice), (max), offsetof (struct message, of.member) },
#define UINT(name, member, max, doc) FIELD (FIELD_UINT, name, member, NULL, max, doc)
#define INT(name, member, doc) FIELD (FIELD_INT, name, member, NULL, UINT64_MAX, doc)
#define CHOICE(name, member, of, doc) FIELD (FIELD_CHOICE, name, member, &of##_enum, UINT8_MAX, doc)
#define TEXT(name, member, max, doc) FIELD (FIELD_TEXT, name, member, NULL, max, doc)
#define RAW(name, member, max, doc) FIELD (FIELD_RAW, name, member, NULL, max, doc)
#define END(name)                            \
    { FIELD_UINT, NULL, NULL, NULL, 0, 0 } \
    }                                        \
    ;
#include "proto/messages.def"
#undef PLAIN
#undef BATCH
#undef UINT
#undef INT
#undef CHOICE
#undef TEXT
#undef RAW
#undef END

#define SPEC(id, name, batch, route, doc)                            \
    [(id)] = { (enum message_id) (id), (batch), #name, (route), (doc), name##_fields, \
               sizeof (name##_fields) / sizeof (*name##_fields) - 1 },
#define PLAIN(id, NAME, name, route, doc) SPEC (id, name, false, route, doc)
#define BATCH(id, NAME, name, route, doc) SPEC (id, name, true, route, doc)
#define UINT(name, member, max, doc)
#define INT(name, member, doc)
#define CHOICE(name, member, of, doc)
#define TEXT(name, member, max, doc)
#define RAW(name, member, max, doc)
#define END(name)
static const struct message_spec specs[MESSAGE_ID_MAX + 1] = {
#include "proto/messages.def"
};

const struct message_spec *message_spec (uint64_t id)
{
    return id <= MESSAGE_ID_MAX && specs[id].name ? &specs[id] : NULL;
}
