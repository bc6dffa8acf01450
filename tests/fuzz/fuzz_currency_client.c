/*  fuzz_currency_client.c - any bytes as the life of the currency client. */

#include "actors/currency_client/currency_client.h"
#include "tests/fuzz/client_fuzz.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

static void ask (struct life *life, struct message *message, uint8_t kind)
{
    message->id = MESSAGE_GIVE;
    message->give = (struct give){
        .request = life->requests,
        .user = life_text (life, UINT8_MAX),
        .amount = kind == 0 ? 10 : (int64_t) life_byte (life) - 128,
        .currency = kind == 2 ? life_text (life, NAME_SIZE_MAX) : TEXT_LITERAL ("gold"),
        .reward = kind == 2 ? life_text (life, REWARD_SIZE_MAX) : TEXT_LITERAL ("promo1"),
        .check = kind == 1 ? (uint64_t) life_byte (life) * 20 : 0,
    };
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    live (&currency_client_spec, ask, bytes, size);
    return 0;
}
