/*  test_http_memory.c - memory for curl: what is in a block stays, whoever takes and
    gives others meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <pthread.h>

#include "actors/base/http_memory.h"

enum { BLOCKS = 200, SIZE_MAX_HERE = 3000, ROUNDS = 100000 };

/*  Blocks that are taken, each full of its own byte. */
struct taken {
    unsigned char *memory[BLOCKS];
    size_t size[BLOCKS];
};

static void expect_full (const struct taken *taken, size_t i, size_t size)
{
    for (size_t at = 0; at < size; at++)
        assert_int_equal (taken->memory[i][at], i);
}

static void fill (struct taken *taken, size_t i, void *memory, size_t size)
{
    assert_non_null (memory);
    assert_int_equal ((uintptr_t) memory % _Alignof(max_align_t), 0);
    memset (memory, (int) i, size);
    taken->memory[i] = memory;
    taken->size[i] = size;
}

static void take_some_way (struct taken *taken, size_t i, size_t size, bool zeroed)
{
    if (!zeroed) {
        fill (taken, i, http_memory_take (size), size);
        return;
    }
    unsigned char *memory = http_memory_take_zeroed (size, 1);
    for (size_t at = 0; memory && at < size; at++)
        assert_int_equal (memory[at], 0);
    fill (taken, i, memory, size);
}

static void test_blocks_taken_and_given_at_random (void **state)
{
    (void) state;
    static struct taken taken;
    unsigned seed = (unsigned) time (NULL);
    print_message ("seed %u\n", seed);
    for (int round = 0; round < ROUNDS; round++) {
        size_t i = (size_t) rand_r (&seed) % BLOCKS;
        size_t size = (size_t) rand_r (&seed) % (rand_r (&seed) % 4 ? 200 : SIZE_MAX_HERE);
        if (!taken.memory[i]) {
            take_some_way (&taken, i, size, rand_r (&seed) % 2);
            continue;
        }
        expect_full (&taken, i, taken.size[i]);
        if (rand_r (&seed) % 2) {
            unsigned char *memory = http_memory_resize (taken.memory[i], size);
            assert_non_null (memory);
            taken.memory[i] = memory;
            expect_full (&taken, i, size < taken.size[i] ? size : taken.size[i]);
            fill (&taken, i, memory, size);
        } else {
            http_memory_give (taken.memory[i]);
            taken.memory[i] = NULL;
        }
    }
    for (size_t i = 0; i < BLOCKS; i++)
        http_memory_give (taken.memory[i]);
}

static void test_copies_and_nothing (void **state)
{
    (void) state;
    char *copy = http_memory_copy ("guerdon");
    assert_string_equal (copy, "guerdon");
    copy = http_memory_resize (copy, 5000);
    assert_string_equal (copy, "guerdon");
    http_memory_give (copy);
    http_memory_give (NULL);
    void *fresh = http_memory_resize (NULL, 10);
    assert_non_null (fresh);
    http_memory_give (fresh);
}

static void test_more_than_there_is (void **state)
{
    (void) state;
    assert_null (http_memory_take (SIZE_MAX));
    assert_null (http_memory_take (SIZE_MAX - 20));
    assert_null (http_memory_take_zeroed (SIZE_MAX / 2, 3));
    void *memory = http_memory_take (100);
    assert_null (http_memory_resize (memory, SIZE_MAX - 5));
    http_memory_give (memory);
    memory = http_memory_take (10000);
    assert_null (http_memory_resize (memory, SIZE_MAX - 5));
    http_memory_give (memory);
}

/*  Gives what another thread took, and takes what that one is to give. */
static void *other_thread (void *context)
{
    struct taken *taken = context;
    for (size_t i = 0; i < BLOCKS; i++) {
        expect_full (taken, i, taken->size[i]);
        http_memory_give (taken->memory[i]);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        fill (taken, i, http_memory_take (taken->size[i]), taken->size[i]);
    return NULL;
}

/*  Also when that thread ends, and with it what it kept. */
static void test_blocks_that_go_from_thread_to_thread (void **state)
{
    (void) state;
    static struct taken taken;
    for (size_t i = 0; i < BLOCKS; i++)
        fill (&taken, i, http_memory_take (10 * i), 10 * i);
    for (int round = 0; round < 3; round++) {
        pthread_t thread;
        assert_int_equal (pthread_create (&thread, NULL, other_thread, &taken), 0);
        pthread_join (thread, NULL);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        expect_full (&taken, i, taken.size[i]);
        http_memory_give (taken.memory[i]);
    }
}

static int begin (void **state)
{
    (void) state;
    return http_memory_init () ? 0 : -1;
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_blocks_taken_and_given_at_random),
        cmocka_unit_test (test_copies_and_nothing),
        cmocka_unit_test (test_more_than_there_is),
        cmocka_unit_test (test_blocks_that_go_from_thread_to_thread),
    };
    return cmocka_run_group_tests (tests, begin, NULL);
}
