/*  usermeta_client.c - reads and writes of App 1's usermeta service. */

#include "actors/usermeta_client/usermeta_client.h"

#include <assert.h>
#include <string.h>

#include "actors/usermeta_client/usermeta_path.h"
#include "include/client.h"
#include "include/effects.h"
#include "proto/codec.h"
#include "proto/raw.h"

/*  Reads looked at, at most, when one request is gathered. */
enum { GATHER_SCAN_MAX = 4 * READ_USERS_MAX };

/*  The path of a request is full when so many users in a row had no room in it. */
enum { GATHER_MISFITS_MAX = 8 };

/*  Marks by which a user that is named already is found, and the bytes at the end of
    an id that choose one. */
enum { GATHER_MARKS_MAX = 4096, GATHER_MARK_BYTES = 16 };

/*  From its first failure on, a lone request is given this long. */
enum { PATIENCE_MS = 10000 };

/*  A reply to a read may name so many users more than were asked for. */
enum { REPLY_SPARE_MAX = 16 };

/*  After a reply that may come of a wrong secret, so many reads ask for the probe's
    user too, whose value shows that it does not. */
enum { DOUBTED_READS = 1000 };

/*  Attempts of a read that were doubted, before that is worth a warning. */
enum { DOUBTS_SAID = 3 };

/*  Whoever this is, nobody minds what is kept of it. */
#define PROBE_USER "guerdon-probe"
#define PROBE_KEY "$guerdon$probe"

struct usermeta_client {
    struct client client;
    struct request_list fresh; /* reads that were not tried yet, one a job */

    uint32_t doubts;         /* reads that still ask for the probe's user, too */
    uint32_t probe_key_size; /* 0: nothing was doubted yet */
    char probe_key[KEY_SIZE_MAX];
};

/*  Where the client's requests begin, behind our own struct. */
static size_t requests_offset (void)
{
    return (sizeof (struct usermeta_client) + 15) / 16 * 16;
}

/*  ---- answers ------------------------------------------------------------ */

/*  Answers a request that may never have been kept. */
static void answer_refused (const struct message *asked, uint64_t request, struct text reason,
                            const struct effects *effects)
{
    struct message message = { .trace = asked->trace };
    if (asked->id == MESSAGE_READ_META) {
        message.id = MESSAGE_META;
        message.meta = (struct meta){ .request = request, .result = RESULT_REFUSED, .reason = reason };
    } else {
        message.id = MESSAGE_META_WRITTEN;
        message.meta_written =
            (struct meta_written){ .request = request, .result = RESULT_REFUSED, .reason = reason };
    }
    put (effects, asked->from, &message);
}

static void refuse (void *room, uint32_t slot, struct text reason, const struct effects *effects)
{
    struct usermeta_client *self = room;
    const struct pending *pending = requests_at (&self->client.requests, slot);
    struct message asked = {
        .id = pending->kind == KIND_READ ? MESSAGE_READ_META : MESSAGE_WRITE_META,
        .trace = pending->trace,
        .from = pending->from,
    };
    answer_refused (&asked, pending->request, reason, effects);
}

static void finish_refused (struct usermeta_client *self, uint32_t slot, struct text reason,
                            const struct effects *effects)
{
    refuse (self, slot, reason, effects);
    requests_drop (&self->client.requests, slot);
}

static void finish_read (struct usermeta_client *self, uint32_t slot, struct raw values,
                         const struct effects *effects)
{
    const struct pending *pending = requests_at (&self->client.requests, slot);
    put (effects, pending->from,
         &(struct message){ .id = MESSAGE_META,
                            .trace = pending->trace,
                            .meta = { .request = pending->request, .result = RESULT_OK, .values = values } });
    requests_drop (&self->client.requests, slot);
}

static void finish_write (struct usermeta_client *self, uint32_t slot, const struct effects *effects)
{
    const struct pending *pending = requests_at (&self->client.requests, slot);
    put (effects, pending->from,
         &(struct message){ .id = MESSAGE_META_WRITTEN,
                            .trace = pending->trace,
                            .meta_written = { .request = pending->request, .result = RESULT_OK } });
    requests_drop (&self->client.requests, slot);
}

/*  ---- replies of the service --------------------------------------------- */

/*  The values of a user. Users mostly come in the order they were asked for,
    so the next one is tried before searching. */
static bool find_user (struct raw body, struct cursor *next, struct text user, struct raw *values)
{
    struct cursor ahead = *next;
    struct value key, head;
    if (!cursor_next (&ahead, &key) || key.type != VALUE_TEXT || !text_equal (key.text, user) ||
        !cursor_skip (&ahead, values)) {
        if (!raw_find (body, user, values))
            return false;
    } else
        *next = ahead;
    return raw_value (*values, &head) && head.type == VALUE_MAP;
}

/*  One user of a reply; `alone` when it was the only one asked for. */
static void take_user (struct usermeta_client *self, uint32_t slot, bool alone, struct raw body,
                       struct cursor *next, const struct effects *effects)
{
    struct raw values;
    if (find_user (body, next, requests_user (&self->client.requests, slot), &values)) {
        if (values.size <= VALUE_SIZE_MAX)
            finish_read (self, slot, values, effects);
        else
            finish_refused (self, slot, TEXT_LITERAL ("the values of this user are too large"), effects);
    } else if (alone)
        finish_refused (self, slot, TEXT_LITERAL ("the reply has no values of this user"), effects);
    else {
        self->client.retries++;
        client_retry (&self->client, slot);
    }
}

/*  True when a reply has users, and nothing of any of them. The keys that are read are
    for those who know the secret, and under a wrong one the reply is the same but for
    them. */
static bool has_nothing (struct raw body)
{
    struct cursor cursor = cursor_of (body);
    struct value users, user, values;
    struct raw raw;
    if (!cursor_next (&cursor, &users))
        return false;
    for (uint32_t i = 0; i < users.count && cursor_next (&cursor, &user) && cursor_skip (&cursor, &raw); i++)
        if (!raw_value (raw, &values) || values.type != VALUE_MAP || values.count > 0)
            return false;
    return users.count > 0;
}

/*  Nobody has a value, so the secret may be wrong. The probe writes one under the last
    of the keys that were read, and the next reads ask for it. */
static void doubt (struct usermeta_client *self, struct text keys)
{
    uint32_t start = keys.size;
    while (start > 0 && keys.data[start - 1] != ',')
        start--;
    uint32_t size = keys.size - start;
    if (size <= sizeof self->probe_key) {
        memcpy (self->probe_key, keys.data + start, size);
        self->probe_key_size = size;
    }
    self->doubts = DOUBTED_READS;
}

/*  Whether a reply can be believed as far as the secret goes. The token route answers
    401 under a wrong one. */
static bool is_proven (struct usermeta_client *self, uint32_t job, struct raw body)
{
    const struct requests *requests = &self->client.requests;
    if (usermeta_user_alone (requests_user (requests, job)))
        return true;
    if (!has_nothing (body))
        return true;
    doubt (self, requests_what (requests, job));
    return false;
}

/*  Asked for with the probe's user, and still nothing: worth a word, once a request. */
static void say_doubt (const struct usermeta_client *self, uint32_t job, const struct effects *effects)
{
    const struct pending *pending = requests_at (&self->client.requests, job);
    if (pending->attempts == DOUBTS_SAID)
        put_log (effects, LOG_WARN, (struct about){ .trace = pending->trace },
                 "usermeta: replies have nothing of anybody, not even of guerdon-probe, whose value was "
                 "accepted: is the secret the same at each of its instances?");
}

static enum taken take (void *room, uint32_t job, const struct message *answer, const struct effects *effects)
{
    struct usermeta_client *self = room;
    const struct pending *pending = requests_at (&self->client.requests, job);
    if (pending->kind == KIND_WRITE) {
        finish_write (self, job, effects);
        return TAKEN;
    }
    struct raw body = answer->http_answer.body;
    struct cursor next = cursor_of (body);
    struct value head;
    uint32_t members = pending->members;
    if (answer->http_answer.body_state != BODY_JSON || !cursor_next (&next, &head) ||
        head.type != VALUE_MAP || head.count > members + REPLY_SPARE_MAX)
        return TAKEN_NOT;
    if (!is_proven (self, job, body)) {
        say_doubt (self, job, effects);
        return TAKEN_DOUBTED;
    }
    while (job != REQUEST_NONE) {
        uint32_t rest = requests_unjoin (&self->client.requests, job);
        take_user (self, job, members == 1, body, &next, effects);
        job = rest;
    }
    return TAKEN;
}

/*  ---- requests to the service -------------------------------------------- */

static void ask (void *room, struct moment now, uint8_t kind, struct message *http)
{
    struct usermeta_client *self = room;
    struct builder path = client_path (&self->client);
    if (kind == KIND_READ) {
        builder_literal (&path, "/" PROBE_USER "/auth?secret={secret}");
        client_request (http, &path, NULL);
        return;
    }
    builder_literal (&path, "/auth/{secret}." PROBE_USER "/");
    usermeta_add_key (&path, self->probe_key_size ? (struct text){ self->probe_key, self->probe_key_size }
                                                  : TEXT_LITERAL (PROBE_KEY));
    char wall[24];
    struct builder value;
    builder_init (&value, wall, sizeof wall);
    builder_uint (&value, now.wall_ms);
    struct packer body = client_body (&self->client);
    pack_map (&body, 1);
    pack_literal (&body, "value");
    pack_text (&body, builder_text (&value));
    client_request (http, &path, &body);
}

/*  Where a read's list of users ends: its keys and what follows them. */
static void add_tail (struct builder *path, struct text keys)
{
    builder_literal (path, "/");
    usermeta_add_keys (path, keys);
    builder_literal (path, "?secret={secret}");
}

static void fill_read (struct usermeta_client *self, uint32_t job, struct message *http)
{
    struct requests *requests = &self->client.requests;
    struct builder path = client_path (&self->client);
    struct text keys = requests_what (requests, job);
    if (usermeta_user_alone (requests_user (requests, job))) {
        builder_literal (&path, "/auth/{secret}.");
        builder_percent (&path, requests_user (requests, job));
        builder_literal (&path, "/");
        usermeta_add_keys (&path, keys);
    } else {
        const char *mark = "/";
        for (uint32_t slot = job; slot != REQUEST_NONE; slot = requests_at (requests, slot)->member) {
            builder_literal (&path, mark);
            builder_percent (&path, requests_user (requests, slot));
            mark = ",";
        }
        if (self->doubts) {
            self->doubts--;
            builder_literal (&path, "," PROBE_USER);
        }
        add_tail (&path, keys);
    }
    client_request (http, &path, NULL);
}

/*  The key and the value of a write, kept together: the size of the key in one
    byte, the key, the value. */
_Static_assert(KEY_SIZE_MAX <= UINT8_MAX, "the size of a key fits one byte");

static void fill_write (struct usermeta_client *self, uint32_t job, struct message *http)
{
    struct text what = requests_what (&self->client.requests, job);
    uint32_t key_size = (uint8_t) what.data[0];
    struct builder path = client_path (&self->client);
    builder_literal (&path, "/auth/{secret}.");
    builder_percent (&path, requests_user (&self->client.requests, job));
    builder_literal (&path, "/");
    usermeta_add_key (&path, (struct text){ what.data + 1, key_size });
    struct packer body = client_body (&self->client);
    pack_map (&body, 1);
    pack_literal (&body, "value");
    pack_text (&body, (struct text){ what.data + 1 + key_size, what.size - 1 - key_size });
    client_request (http, &path, &body);
}

/*  True while another write of this user is under way. */
static bool writing (const struct usermeta_client *self, struct text user)
{
    const struct requests *requests = &self->client.requests;
    for (size_t i = 0; i < HTTP_CONCURRENCY_MAX; i++) {
        const struct flight *flight = &self->client.flights[i];
        if (flight->id && flight->job != REQUEST_NONE &&
            requests_at (requests, flight->job)->kind == KIND_WRITE &&
            text_equal (requests_user (requests, flight->job), user))
            return true;
    }
    return false;
}

static bool fill (void *room, uint32_t job, struct message *http)
{
    struct usermeta_client *self = room;
    if (requests_at (&self->client.requests, job)->kind == KIND_READ) {
        fill_read (self, job, http);
        return true;
    }
    if (writing (self, requests_user (&self->client.requests, job)))
        return false;
    fill_write (self, job, http);
    return true;
}

/*  ---- gathering ---------------------------------------------------------- */

/*  A read of many users while it grows. */
struct gathering {
    struct requests *requests;
    struct text keys;
    struct builder path; /* measures the list of users */
    size_t tail_size;    /* bytes of the path behind it */
    uint32_t job;
    uint32_t last;                         /* of its requests */
    unsigned misfits;                      /* users in a row that had no room in the path */
    uint64_t marks[GATHER_MARKS_MAX / 64]; /* a bit for each user that is in the list */
};

/*  Sets the mark of a user; true when it was not there, so that the user is not in
    the list. Who chooses ids that share a mark makes a search necessary, no more. */
static bool mark (struct gathering *gathering, struct text user)
{
    uint32_t hash = user.size;
    for (uint32_t i = user.size > GATHER_MARK_BYTES ? user.size - GATHER_MARK_BYTES : 0; i < user.size; i++)
        hash = hash * 31 + (uint8_t) user.data[i];
    hash = hash * 0x9e3779b1u >> 16;
    uint64_t *word = &gathering->marks[hash % GATHER_MARKS_MAX / 64];
    uint64_t bit = UINT64_C (1) << hash % 64;
    bool fresh = !(*word & bit);
    *word |= bit;
    return fresh;
}

static bool gathered (const struct gathering *gathering, struct text user)
{
    for (uint32_t slot = gathering->job; slot != REQUEST_NONE;
         slot = requests_at (gathering->requests, slot)->member)
        if (text_equal (requests_user (gathering->requests, slot), user))
            return true;
    return false;
}

/*  True when one more read may join; its user is in the path then. A user that
    is there already waits for the next request. */
static bool fits (struct gathering *gathering, uint32_t slot)
{
    struct text user = requests_user (gathering->requests, slot);
    if (!text_equal (requests_what (gathering->requests, slot), gathering->keys) ||
        usermeta_user_alone (user) || (!mark (gathering, user) && gathered (gathering, user)))
        return false;
    size_t before = gathering->path.size;
    builder_literal (&gathering->path, ",");
    builder_percent (&gathering->path, user);
    if (!gathering->path.overflow && gathering->path.size + gathering->tail_size <= PATH_LIST_SIZE_MAX) {
        gathering->misfits = 0;
        return true;
    }
    gathering->misfits++;
    gathering->path.size = before;
    gathering->path.overflow = false;
    return false;
}

static void begin (struct gathering *gathering, struct usermeta_client *self, uint32_t job)
{
    *gathering = (struct gathering){ .requests = &self->client.requests };
    gathering->keys = requests_what (gathering->requests, job);
    gathering->job = gathering->last = job;
    gathering->path = client_path (&self->client);
    add_tail (&gathering->path, gathering->keys);
    gathering->tail_size = gathering->path.size;
    gathering->path = client_path (&self->client);
    builder_literal (&gathering->path, "/");
    builder_percent (&gathering->path, requests_user (gathering->requests, job));
    mark (gathering, requests_user (gathering->requests, job));
}

static uint32_t gather (void *room)
{
    struct usermeta_client *self = room;
    struct requests *requests = &self->client.requests;
    uint32_t job = request_list_pop (requests, &self->fresh);
    if (job == REQUEST_NONE || usermeta_user_alone (requests_user (requests, job)))
        return job;
    struct gathering gathering;
    begin (&gathering, self, job);
    uint32_t previous = REQUEST_NONE;
    uint32_t at = self->fresh.head;
    for (uint32_t seen = 0; at != REQUEST_NONE && seen < GATHER_SCAN_MAX; seen++) {
        if (requests_at (requests, job)->members == READ_USERS_MAX || gathering.misfits == GATHER_MISFITS_MAX)
            break;
        if (!fits (&gathering, at)) {
            previous = at;
            at = requests_at (requests, at)->next;
            continue;
        }
        uint32_t added = previous == REQUEST_NONE
                             ? request_list_pop (requests, &self->fresh)
                             : request_list_pop_behind (requests, &self->fresh, previous);
        requests_join (requests, job, gathering.last, added);
        gathering.last = added;
        at = previous == REQUEST_NONE ? self->fresh.head : requests_at (requests, previous)->next;
    }
    return job;
}

/*  ---- what the decision asks for ----------------------------------------- */

/*  Keeps a request, or refuses it at once. */
static uint32_t keep (struct usermeta_client *self, const struct message *message, uint64_t request,
                      struct text user, struct text what, const struct effects *effects)
{
    struct text reason = NO_TEXT;
    uint32_t slot = REQUEST_NONE;
    if (user.size == 0)
        reason = TEXT_LITERAL ("user id is empty");
    else if (text_has (user, ':'))
        reason = TEXT_LITERAL ("user id contains ':'");
    else if ((slot = requests_keep (&self->client.requests, message, user, what)) == REQUEST_NONE) {
        reason = TEXT_LITERAL ("too many requests");
        put_log (effects, LOG_ERROR, (struct about){ .trace = message->trace, .user = user },
                 "more than %u requests at once: refused", (unsigned) self->client.requests.capacity);
    }
    if (slot == REQUEST_NONE)
        answer_refused (message, request, reason, effects);
    else
        requests_at (&self->client.requests, slot)->request = request;
    return slot;
}

static void on_read_meta (struct usermeta_client *self, const struct message *message,
                          const struct effects *effects)
{
    const struct read_meta *read = &message->read_meta;
    uint32_t slot = keep (self, message, read->request, read->user, read->keys, effects);
    if (slot == REQUEST_NONE)
        return;
    requests_at (&self->client.requests, slot)->kind = KIND_READ;
    request_list_push (&self->client.requests, &self->fresh, slot);
}

static void on_write_meta (struct usermeta_client *self, const struct message *message,
                           const struct effects *effects)
{
    const struct write_meta *write = &message->write_meta;
    assert (write->key.size <= KEY_SIZE_MAX && write->value.size <= VALUE_SIZE_MAX);
    char what[1 + KEY_SIZE_MAX + VALUE_SIZE_MAX];
    what[0] = (char) (uint8_t) write->key.size;
    if (write->key.size)
        memcpy (what + 1, write->key.data, write->key.size);
    if (write->value.size)
        memcpy (what + 1 + write->key.size, write->value.data, write->value.size);
    uint32_t size = 1 + write->key.size + write->value.size;
    uint32_t slot = keep (self, message, write->request, write->user, (struct text){ what, size }, effects);
    if (slot == REQUEST_NONE)
        return;
    requests_at (&self->client.requests, slot)->kind = KIND_WRITE;
    client_retry (&self->client, slot);
}

static void handle (void *state, struct moment now, const struct message *message,
                    const struct effects *effects)
{
    struct usermeta_client *self = state;
    switch (message->id) {
    case MESSAGE_READ_META:
        on_read_meta (self, message, effects);
        return;
    case MESSAGE_WRITE_META:
        on_write_meta (self, message, effects);
        return;
    case MESSAGE_PEER:
        if (message->peer.state == PEER_RESTARTED)
            request_list_forget (&self->client.requests, &self->fresh, message->from);
        client_handle (&self->client, now, message, effects);
        return;
    default:
        client_handle (&self->client, now, message, effects);
        return;
    }
}

static const struct client_rules rules = {
    .service = SERVICE_USERMETA,
    .question_proves = true,
    .patience_ms = PATIENCE_MS,
    .ask = ask,
    .gather = gather,
    .fill = fill,
    .take = take,
    .refuse = refuse,
};

static size_t state_size (const struct settings *settings)
{
    return requests_offset () + client_requests_size (settings);
}

static void init (void *state, const struct settings *settings)
{
    struct usermeta_client *self = state;
    client_init (&self->client, &rules, self, (char *) state + requests_offset (), settings);
    request_list_init (&self->fresh);
}

const struct actor_spec usermeta_client_spec = {
    .role = ROLE_USERMETA_CLIENT,
    .service = SERVICE_USERMETA,
    .speaks_http = true,
    .state_size = state_size,
    .init = init,
    .handle = handle,
};
