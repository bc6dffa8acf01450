/*  test_topology.c - who runs where: lists, indexes, bind addresses, and every way
    in which they do not fit together. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bin/topology.h"
#include "proto/text.h"

enum {
    INGEST = 1 << ROLE_INGEST,
    DECISION = 1 << ROLE_DECISION,
    USERMETA = 1 << ROLE_USERMETA_CLIENT,
    CURRENCY = 1 << ROLE_CURRENCY_CLIENT,
    STATS = 1 << ROLE_STATS,
    ALL = INGEST | DECISION | USERMETA | CURRENCY | STATS
};

static struct config config;
static struct deployment deployment;
static struct problems problems;

/*  Everything as it is when no variable is set. */
static int begin (void **state)
{
    (void) state;
    config = (struct config){ .settings = { .window = 100, .hash_seed = 42 } };
    config.bound[ROLE_DECISION] = (struct bound_config){ "inproc://decision", NULL, -1 };
    config.bound[ROLE_USERMETA_CLIENT] = (struct bound_config){ "inproc://usermeta-client", NULL, -1 };
    config.bound[ROLE_CURRENCY_CLIENT] = (struct bound_config){ "inproc://currency-client", NULL, -1 };
    config.bound[ROLE_STATS] = (struct bound_config){ "inproc://stats", NULL, -1 };
    problems = (struct problems){ .size = 0 };
    return 0;
}

static void deploy (unsigned roles)
{
    problems = (struct problems){ .size = 0 };
    topology_deploy (&config, roles, &deployment, &problems);
}

static void expect_good (unsigned roles)
{
    deploy (roles);
    if (problems.count)
        fail_msg ("%s", problems.text);
}

/*  So many problems, and among them one with these words. */
static void expect_problem (unsigned roles, unsigned count, const char *words)
{
    deploy (roles);
    if (problems.count != count || !strstr (problems.text, words))
        fail_msg ("expected %u with \"%s\", got %u:\n%s", count, words, problems.count, problems.text);
}

/*  The options of an actor in the deployment. */
static struct bus_options bus_of (enum role role)
{
    for (unsigned i = 0; i < topology_count; i++)
        if (topology[i].spec->role == role)
            return topology_bus (&deployment, &topology[i], NULL, NULL, &config.settings);
    fail_msg ("no %s", role_name (role));
    return (struct bus_options){ .context = NULL };
}

static void expect_link (const struct bus_options *options, unsigned at, enum role role, uint16_t peer,
                         const char *endpoint)
{
    assert_true (at < options->link_count);
    assert_int_equal (options->links[at].peer.role, role);
    assert_int_equal (options->links[at].peer.peer, peer);
    assert_string_equal (options->links[at].endpoint, endpoint);
}

static void test_every_role_has_its_name (void **state)
{
    (void) state;
    for (enum role role = ROLE_INGEST; role <= ROLE_STATS; role++)
        assert_int_equal (topology_role (text_of (role_name (role))), role);
    assert_int_equal (topology_role (TEXT_LITERAL ("")), ROLE_SHELL);
    assert_int_equal (topology_role (TEXT_LITERAL ("shell")), ROLE_SHELL);
    assert_int_equal (topology_role (TEXT_LITERAL ("decisions")), ROLE_SHELL);
}

static void test_who_may_call_whom_follows_from_the_table (void **state)
{
    (void) state;
    assert_int_equal (topology_callers (ROLE_INGEST), 0);
    assert_int_equal (topology_callers (ROLE_DECISION), INGEST);
    assert_int_equal (topology_callers (ROLE_USERMETA_CLIENT), DECISION);
    assert_int_equal (topology_callers (ROLE_CURRENCY_CLIENT), DECISION);
    assert_int_equal (topology_callers (ROLE_STATS), INGEST | DECISION);
}

static void test_all_in_one_needs_nothing (void **state)
{
    (void) state;
    expect_good (ALL);
    assert_int_equal (config.settings.decisions, 1);
    assert_int_equal (config.settings.usermeta_clients, 1);
    assert_int_equal (config.settings.currency_clients, 1);
    assert_int_equal (topology_tcp_roles (&deployment), 0);
    struct bus_options ingest = bus_of (ROLE_INGEST);
    assert_null (ingest.endpoint);
    assert_int_equal (ingest.link_count, 2);
    expect_link (&ingest, 0, ROLE_DECISION, 0, "inproc://decision");
    expect_link (&ingest, 1, ROLE_STATS, 0, "inproc://stats");
    struct bus_options decision = bus_of (ROLE_DECISION);
    assert_string_equal (decision.endpoint, "inproc://decision");
    assert_int_equal (decision.link_count, 3);
    assert_int_equal (decision.callers, INGEST);
    assert_true (decision.incarnation != 0);
    assert_int_equal (bus_of (ROLE_STATS).link_count, 0);
}

static void test_a_seed_of_zero_is_an_incarnation_all_the_same (void **state)
{
    (void) state;
    config.settings.hash_seed = 0;
    expect_good (ALL);
    assert_true (bus_of (ROLE_INGEST).incarnation != 0);
}

static void test_a_role_elsewhere_cannot_be_within_the_process (void **state)
{
    (void) state;
    expect_problem (INGEST, 2, "DECISION_ENDPOINT is \"inproc://decision\": expected tcp://host:port or");
    assert_non_null (strstr (problems.text, "as decision does not run in this process"));
    assert_non_null (strstr (problems.text, "STATS_ENDPOINT"));
    expect_problem (INGEST | STATS, 1, "DECISION_ENDPOINT");
    expect_problem (INGEST | DECISION | STATS, 2, "USERMETA_CLIENT_ENDPOINT");
    assert_non_null (strstr (problems.text, "CURRENCY_CLIENT_ENDPOINT"));
    expect_good (USERMETA | CURRENCY | STATS); /* they call nobody */
    config.bound[ROLE_DECISION].endpoints = "ipc:///run/d";
    config.bound[ROLE_STATS].endpoints = "tcp://127.0.0.1:7";
    expect_good (INGEST);
    struct bus_options ingest = bus_of (ROLE_INGEST);
    expect_link (&ingest, 0, ROLE_DECISION, 0, "ipc:///run/d");
    expect_link (&ingest, 1, ROLE_STATS, 0, "tcp://127.0.0.1:7");
    assert_int_equal (topology_tcp_roles (&deployment), INGEST);
}

static void test_a_list_gives_every_caller_all_of_them (void **state)
{
    (void) state;
    config.bound[ROLE_DECISION].endpoints = "ipc:///a,tcp://h:1,ipc:///c";
    config.bound[ROLE_STATS].endpoints = "ipc:///s";
    expect_good (INGEST);
    struct bus_options ingest = bus_of (ROLE_INGEST);
    assert_int_equal (ingest.link_count, 4);
    expect_link (&ingest, 0, ROLE_DECISION, 0, "ipc:///a");
    expect_link (&ingest, 1, ROLE_DECISION, 1, "tcp://h:1");
    expect_link (&ingest, 2, ROLE_DECISION, 2, "ipc:///c");
    assert_int_equal (config.settings.decisions, 3);
    assert_int_equal (config.settings.usermeta_clients, 1);
}

static void test_the_longest_lists_fit (void **state)
{
    (void) state;
    char list[ENDPOINTS_SIZE_MAX + 1] = "";
    for (unsigned i = 0; i < ENDPOINTS_MAX; i++)
        snprintf (list + strlen (list), sizeof list - strlen (list), "%sipc:///e%u", i ? "," : "", i);
    config.bound[ROLE_USERMETA_CLIENT].endpoints = list;
    config.bound[ROLE_CURRENCY_CLIENT].endpoints = list;
    config.bound[ROLE_STATS].endpoints = "ipc:///s";
    config.bound[ROLE_DECISION].endpoints = "ipc:///d";
    expect_good (DECISION);
    struct bus_options decision = bus_of (ROLE_DECISION);
    assert_int_equal (decision.link_count, 2 * ENDPOINTS_MAX + 1);
    expect_link (&decision, ENDPOINTS_MAX - 1, ROLE_USERMETA_CLIENT, ENDPOINTS_MAX - 1, "ipc:///e15");
    expect_link (&decision, ENDPOINTS_MAX, ROLE_CURRENCY_CLIENT, 0, "ipc:///e0");
    char longest[ENDPOINT_SIZE_MAX + 1] = "ipc:///";
    memset (longest + 7, 'x', sizeof longest - 8);
    config.bound[ROLE_DECISION].endpoints = longest;
    expect_good (DECISION);
    assert_string_equal (bus_of (ROLE_DECISION).endpoint, longest);
}

static void test_one_of_a_list_has_to_say_which (void **state)
{
    (void) state;
    config.bound[ROLE_USERMETA_CLIENT].endpoints = "ipc:///a,ipc:///b";
    expect_problem (USERMETA, 1,
                    "USERMETA_CLIENT_ENDPOINT has 2 entries: expected USERMETA_CLIENT_WORKER to say which of "
                    "them this process is, from 0");
    config.bound[ROLE_USERMETA_CLIENT].index = 1;
    expect_good (USERMETA);
    struct bus_options usermeta = bus_of (ROLE_USERMETA_CLIENT);
    assert_int_equal (usermeta.self.peer, 1);
    assert_string_equal (usermeta.endpoint, "ipc:///b");
}

static void test_an_index_beyond_the_list_is_named (void **state)
{
    (void) state;
    config.bound[ROLE_DECISION] = (struct bound_config){ "ipc:///a,ipc:///b", NULL, 2 };
    expect_problem (DECISION | USERMETA | CURRENCY | STATS, 1,
                    "DECISION_SHARD is \"2\": expected at most 1, as DECISION_ENDPOINT has 2 entries");
    config.bound[ROLE_DECISION].endpoints = "ipc:///a";
    expect_problem (DECISION | USERMETA | CURRENCY | STATS, 1, "expected at most 0");
    config.bound[ROLE_DECISION].index = 0;
    expect_good (DECISION | USERMETA | CURRENCY | STATS);
}

static void test_a_bind_address_tells_by_its_port (void **state)
{
    (void) state;
    config.bound[ROLE_CURRENCY_CLIENT] =
        (struct bound_config){ "tcp://a.example:7001,tcp://b.example:7002", "tcp://*:7002", -1 };
    expect_good (CURRENCY);
    assert_int_equal (bus_of (ROLE_CURRENCY_CLIENT).self.peer, 1);
    assert_string_equal (bus_of (ROLE_CURRENCY_CLIENT).endpoint, "tcp://*:7002");
    assert_int_equal (topology_tcp_roles (&deployment), CURRENCY);
    config.bound[ROLE_CURRENCY_CLIENT].bind = "tcp://*:7003";
    expect_problem (CURRENCY, 1, "expected CURRENCY_CLIENT_WORKER");
    config.bound[ROLE_CURRENCY_CLIENT].bind = "tcp://*:17002";
    expect_problem (CURRENCY, 1, "expected CURRENCY_CLIENT_WORKER");
    config.bound[ROLE_CURRENCY_CLIENT] =
        (struct bound_config){ "tcp://a.example:7001,tcp://b.example:7001", "tcp://*:7001", -1 };
    expect_problem (CURRENCY, 1, "expected CURRENCY_CLIENT_WORKER"); /* it may be either */
    config.bound[ROLE_CURRENCY_CLIENT].index = 0;
    expect_good (CURRENCY);
    assert_string_equal (bus_of (ROLE_CURRENCY_CLIENT).endpoint, "tcp://*:7001");
}

static void test_a_bind_address_that_is_an_entry_is_that_one (void **state)
{
    (void) state;
    config.bound[ROLE_CURRENCY_CLIENT] =
        (struct bound_config){ "tcp://10.0.0.1:7001,tcp://10.0.0.2:7001", "tcp://10.0.0.2:7001", -1 };
    expect_good (CURRENCY);
    assert_int_equal (bus_of (ROLE_CURRENCY_CLIENT).self.peer, 1);
    config.bound[ROLE_CURRENCY_CLIENT] =
        (struct bound_config){ "ipc:///run/a.sock,ipc:///run/b.sock", "ipc:///run/b.sock", -1 };
    expect_good (CURRENCY);
    assert_int_equal (bus_of (ROLE_CURRENCY_CLIENT).self.peer, 1);
}

static void test_a_bind_address_of_the_only_one_is_not_compared (void **state)
{
    (void) state;
    config.bound[ROLE_USERMETA_CLIENT] = (struct bound_config){ "tcp://a.example:7001", "tcp://*:9", -1 };
    expect_good (USERMETA);
    assert_string_equal (bus_of (ROLE_USERMETA_CLIENT).endpoint, "tcp://*:9");
}

static void test_others_of_a_list_cannot_be_within_the_process (void **state)
{
    (void) state;
    config.bound[ROLE_DECISION] = (struct bound_config){ "inproc://d,ipc:///d1", NULL, 0 };
    expect_problem (ALL, 1, "DECISION_ENDPOINT is \"inproc://d\"");
    config.bound[ROLE_DECISION].endpoints = "ipc:///d0,ipc:///d1";
    expect_good (ALL);
    assert_int_equal (bus_of (ROLE_DECISION).self.peer, 0);
    assert_int_equal (bus_of (ROLE_INGEST).link_count, 3);
}

static void test_there_is_one_stats (void **state)
{
    (void) state;
    config.bound[ROLE_DECISION].endpoints = "ipc:///d";
    config.bound[ROLE_STATS].endpoints = "ipc:///a,ipc:///b";
    expect_problem (INGEST, 1, "STATS_ENDPOINT has 2 entries: expected one");
    expect_problem (STATS, 1, "STATS_ENDPOINT has 2 entries: expected one");
}

static void test_plaintext_beyond_loopback_is_a_problem_or_a_warning (void **state)
{
    (void) state;
    struct problems warnings = { .size = 0 };
    config.bound[ROLE_DECISION].endpoints = "tcp://10.0.0.1:1";
    expect_good (INGEST | STATS);
    topology_check_plaintext (&deployment, &config, &problems, &warnings);
    assert_int_equal (problems.count, 1);
    assert_int_equal (warnings.count, 0);
    assert_non_null (strstr (problems.text, "DECISION_ENDPOINT"));
    config.allow_plaintext = true;
    problems = (struct problems){ .size = 0 };
    topology_check_plaintext (&deployment, &config, &problems, &warnings);
    assert_int_equal (problems.count, 0);
    assert_int_equal (warnings.count, 1);
    config.bound[ROLE_DECISION].endpoints = "tcp://127.0.0.1:1";
    expect_good (INGEST | STATS);
    config.allow_plaintext = false;
    warnings = (struct problems){ .size = 0 };
    topology_check_plaintext (&deployment, &config, &problems, &warnings);
    assert_int_equal (problems.count + warnings.count, 0);
}

/*  Who set only the endpoint is told of the endpoint. */
static void test_a_problem_names_the_variable_that_was_set (void **state)
{
    (void) state;
    struct problems warnings = { .size = 0 };
    config.bound[ROLE_STATS].endpoints = "tcp://10.0.0.1:1";
    expect_good (STATS);
    topology_check_plaintext (&deployment, &config, &problems, &warnings);
    assert_int_equal (problems.count, 1);
    assert_non_null (strstr (problems.text, "STATS_ENDPOINT"));
    config.bound[ROLE_STATS] = (struct bound_config){ "tcp://127.0.0.1:1", "tcp://*:1", -1 };
    expect_good (STATS);
    topology_check_plaintext (&deployment, &config, &problems, &warnings);
    assert_int_equal (problems.count, 1);
    assert_non_null (strstr (problems.text, "STATS_BIND"));
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup (test_every_role_has_its_name, begin),
        cmocka_unit_test_setup (test_who_may_call_whom_follows_from_the_table, begin),
        cmocka_unit_test_setup (test_all_in_one_needs_nothing, begin),
        cmocka_unit_test_setup (test_a_seed_of_zero_is_an_incarnation_all_the_same, begin),
        cmocka_unit_test_setup (test_a_role_elsewhere_cannot_be_within_the_process, begin),
        cmocka_unit_test_setup (test_a_list_gives_every_caller_all_of_them, begin),
        cmocka_unit_test_setup (test_the_longest_lists_fit, begin),
        cmocka_unit_test_setup (test_one_of_a_list_has_to_say_which, begin),
        cmocka_unit_test_setup (test_an_index_beyond_the_list_is_named, begin),
        cmocka_unit_test_setup (test_a_bind_address_tells_by_its_port, begin),
        cmocka_unit_test_setup (test_a_bind_address_that_is_an_entry_is_that_one, begin),
        cmocka_unit_test_setup (test_a_bind_address_of_the_only_one_is_not_compared, begin),
        cmocka_unit_test_setup (test_others_of_a_list_cannot_be_within_the_process, begin),
        cmocka_unit_test_setup (test_there_is_one_stats, begin),
        cmocka_unit_test_setup (test_plaintext_beyond_loopback_is_a_problem_or_a_warning, begin),
        cmocka_unit_test_setup (test_a_problem_names_the_variable_that_was_set, begin),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
