/*  fuzz_usermeta_client.c - any bytes as the life of the usermeta client. */

#include "actors/usermeta_client/usermeta_client.h"
#include "tests/fuzz/client_fuzz.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

/*  Long ids are made of short ones, so that few bytes reach the limits. */
static char long_user[USER_SIZE_MAX];

static void ask (struct life *life, struct message *message, uint8_t kind)
{
    struct text user = life_text (life, UINT8_MAX);
    if (user.size > 250) {
        for (uint32_t i = 0; i < USER_SIZE_MAX; i++)
            long_user[i] = user.data[i % user.size];
        user = (struct text){ long_user, USER_SIZE_MAX };
    }
    uint64_t request = life->requests;
    if (kind == 2) {
        message->id = MESSAGE_WRITE_META;
        message->write_meta = (struct write_meta){ .request = request,
                                                   .user = user,
                                                   .key = life_text (life, KEY_SIZE_MAX),
                                                   .value = life_text (life, VALUE_SIZE_MAX) };
        return;
    }
    message->id = MESSAGE_READ_META;
    message->read_meta = (struct read_meta){
        .request = request,
        .user = user,
        .keys = kind == 0 ? TEXT_LITERAL ("auth,$reward$promo1") : life_text (life, KEYS_SIZE_MAX),
    };
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    live (&usermeta_client_spec, ask, bytes, size);
    return 0;
}
