"""test_faults.py - services that answer 500, reset, hang, or send half a reply:
everybody is served once they are well, and nothing is acknowledged before."""
import harness
import standin
from harness import wait_until

USERS = ["player%d" % n for n in range(40)]


class Faults(harness.Case):
    """The service is bad for a while, for everybody. Requests fail at least
    a few times; nothing is acknowledged; then it is well again."""

    def outage(self, service, act, method=None, hits=3, **env):
        self.world.players(USERS)
        worker = self.worker(**env).wait_ready()
        rule = service.misbehave(act, method=method)
        self.events.add_logins(USERS)
        wait_until(lambda: rule.hits >= hits, 15, "%d requests failed" % hits)
        if service is not self.events:
            self.assertEqual(0, self.acked())
            self.assertEqual(0, sum(worker.counters()[1:]))
        rule.release()
        self.wait_rewarded(USERS, 20)
        self.wait_acked(len(USERS))
        count = len(USERS)
        self.assertEqual((count, count, 0, 0), self.wait_rest(worker, count))
        self.assert_each_once(USERS)
        worker.stop()

    # -- usermeta, reads

    def test_reads_answer_500(self):
        self.outage(self.usermeta, standin.status(500), "GET")

    def test_reads_answer_429_and_say_when(self):
        self.outage(self.usermeta, standin.status(429, headers=((b"Retry-After", b"1"),)), "GET",
                    hits=1)

    def test_reads_are_reset(self):
        self.outage(self.usermeta, standin.reset(), "GET")

    def test_reads_hang(self):
        self.outage(self.usermeta, standin.hang(), "GET", hits=2)

    def test_reads_are_half(self):
        self.outage(self.usermeta, standin.half(), "GET")

    def test_reads_are_not_json(self):
        self.outage(self.usermeta, standin.not_json(), "GET")

    def test_reads_are_an_array(self):
        self.outage(self.usermeta, standin.body(b"[]"), "GET")

    def test_reads_lie_about_their_length(self):
        self.outage(self.usermeta, standin.lying_length(20), "GET")

    # -- usermeta, writes

    def test_writes_answer_503(self):
        self.outage(self.usermeta, standin.status(503), "POST")

    def test_writes_are_reset(self):
        self.outage(self.usermeta, standin.reset(), "POST")

    def test_writes_are_reset_after_applying(self):
        self.outage(self.usermeta, standin.reset(apply=True), "POST")

    def test_writes_hang(self):
        self.outage(self.usermeta, standin.hang(), "POST", hits=2)

    def test_writes_are_answered_by_half(self):
        self.outage(self.usermeta, standin.half(), "POST")

    # -- virtualcurrency

    def test_rewards_answer_500(self):
        self.outage(self.currency, standin.status(500), "POST")

    def test_rewards_answer_502_with_a_page_of_a_proxy(self):
        self.outage(self.currency, standin.status(502, b"<html>Bad Gateway</html>"), "POST")

    def test_rewards_are_reset(self):
        self.outage(self.currency, standin.reset(), "POST")

    def test_rewards_are_closed_without_a_word(self):
        self.outage(self.currency, standin.close(), "POST")

    def test_rewards_hang(self):
        self.outage(self.currency, standin.hang(), "POST", hits=2)

    def test_rewards_are_half(self):
        self.outage(self.currency, standin.half(apply=False), "POST")

    def test_rewards_are_reset_after_applying(self):
        self.outage(self.currency, standin.reset(apply=True), "POST")

    def test_rewards_are_accepted_with_rubbish(self):
        # Any 2xx is given: nobody gets a second one because of the body.
        self.world.players(USERS)
        self.currency.misbehave(standin.not_json(apply=True), method="POST")
        self.events.add_logins(USERS)
        worker = self.worker()
        self.assertEqual((40, 40, 0, 0), self.wait_rest(worker, 40))
        self.assert_each_once(USERS)
        worker.stop()

    # -- events

    def test_polls_answer_500(self):
        self.outage(self.events, standin.status(500), "GET")

    def test_polls_are_reset(self):
        self.outage(self.events, standin.reset(), "GET")

    def test_polls_are_reset_after_the_acknowledgement(self):
        self.outage(self.events, standin.reset(apply=True), "GET")

    def test_polls_are_half(self):
        self.outage(self.events, standin.half(), "GET")

    def test_polls_trickle(self):
        self.outage(self.events, standin.slow(0.3), "GET", hits=1)


class Outages(harness.Case):
    """Services that are gone altogether."""

    def gone(self, service):
        self.world.players(USERS)
        worker = self.worker().wait_ready()
        service.stop()
        self.events.add_logins(USERS)
        wait_until(lambda: worker.ready()[0] == 503 and service.name in worker.ready()[1], 15,
                   "/ready names " + service.name)
        self.assertEqual(0, self.acked())
        service.start()
        self.wait_rewarded(USERS)
        self.wait_acked(len(USERS))
        self.assert_each_once(USERS)
        worker.wait_ready()
        worker.stop()

    def test_usermeta_is_gone(self):
        self.gone(self.usermeta)

    def test_virtualcurrency_is_gone(self):
        self.gone(self.currency)

    def test_events_is_gone(self):
        self.gone(self.events)

    def test_the_secret_at_usermeta_is_changed(self):
        """Reads are answered with 200 then, and nothing of anybody."""
        some, more = USERS[:20], USERS[20:]
        self.world.players(USERS)
        worker = self.worker().wait_ready()
        self.events.add_logins(some)
        self.assertEqual((20, 20, 0, 0), self.wait_rest(worker, 20))
        self.wait_acked(20)
        self.usermeta.secret = "another"
        self.events.add_logins(more)
        wait_until(lambda: worker.ready()[0] == 503 and "rejects API_SECRET (HTTP 401)" in worker.ready()[1], 10,
                   "/ready says that the secret is rejected")
        harness.holds_for(lambda: self.acked() == 20 and sum(worker.counters()[1:]) == 20, 1.0, "nobody is decided")
        self.usermeta.secret = self.secret
        self.wait_rewarded(USERS, 20)
        self.assertEqual((40, 40, 0, 0), self.wait_rest(worker, 40))
        self.wait_acked(40)
        self.assert_each_once(USERS)
        worker.stop()

    def test_who_has_nothing_at_usermeta_is_ignored(self):
        """With the right secret; whoever is asked for alone or among others."""
        strangers = ["stranger%d" % n for n in range(30)]
        worker = self.worker().wait_ready()
        for user in strangers[:5]:
            self.events.add_logins([user])
            count = strangers.index(user) + 1
            self.assertEqual((count, 0, 0, count), self.wait_rest(worker, count))
        self.events.add_logins(strangers[5:])
        self.assertEqual((30, 0, 0, 30), self.wait_rest(worker, 30))
        self.wait_acked(30)
        self.assertEqual(200, worker.ready()[0])
        worker.stop()

    def test_one_slow_player_does_not_hold_up_the_others(self):
        self.world.players(USERS + ["slow"])
        rule = self.currency.misbehave(standin.hang(), user="slow")
        self.events.add_logins(["slow"] + USERS)
        worker = self.worker(HTTP_TIMEOUT_SECONDS=20)
        self.wait_rewarded(USERS)
        self.assertEqual(0, self.acked())
        rule.release()
        self.wait_acked(len(USERS) + 1)
        self.assert_each_once(USERS + ["slow"])
        worker.stop()

    def test_a_connection_that_was_closed_meanwhile(self):
        self.world.players(USERS)
        worker = self.worker().wait_ready()
        for number, user in enumerate(USERS[:5]):
            self.events.add(user)
            self.wait_rewarded([user])
            for service in (self.usermeta, self.currency):
                self.world.call(lambda service=service: [connection.transport.close() for connection
                                                         in list(service.connections)])
            self.wait_acked(number + 1)
        self.assert_each_once(USERS[:5])
        worker.stop()


if __name__ == "__main__":
    harness.main()
