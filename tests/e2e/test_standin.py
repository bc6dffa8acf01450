"""test_standin.py - the stand-in itself: does it answer as the real services do,
and does it misbehave as it is told?"""
import http.client
import json
import socket
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import harness
import standin
from harness import wait_until

SECRET = urllib.parse.quote(harness.SECRET, safe="")
POLL = "/events/v1/events?clientId=c&channel=users%2Fv1&secret=" + SECRET


class StandIn(unittest.TestCase):
    def setUp(self):
        self.world = standin.World(harness.SECRET).start()
        self.addCleanup(self.world.close)
        self.events, self.usermeta, self.currency = self.world.services

    def ask(self, service, path, body=None, method=None):
        """(status, parsed body)"""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request("http://127.0.0.1:%d%s" % (service.port, path), data,
                                         {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def ids(self, path):
        return [event["id"] for event in self.ask(self.events, path)[1]]

    # -- events

    def test_poll_answers_at_once_what_is_there(self):
        self.events.add_logins(["u%d" % n for n in range(5)])
        self.assertEqual([1, 2, 3, 4, 5], self.ids(POLL))
        self.assertEqual([4, 5], self.ids(POLL + "&after=3"))
        self.assertEqual([1, 2], self.ids(POLL + "&after=0&limit=2"))

    def test_after_is_the_acknowledgement_and_its_absence_is_none(self):
        self.events.add_logins(["a", "b", "c"])
        self.ids(POLL + "&after=2")
        self.assertEqual(2, self.events.position("c"))
        self.assertEqual([3], self.ids(POLL))
        self.assertEqual([1, 2, 3], self.ids(POLL + "&after="))
        self.assertEqual(0, self.events.position("c"))
        self.assertEqual(["2", ""], [ack[3] for ack in self.events.acks])

    def test_long_poll_waits_for_an_event_and_for_its_timeout(self):
        self.events.poll_timeout = 0.2
        start = time.monotonic()
        self.assertEqual((200, []), self.ask(self.events, POLL))
        self.assertGreaterEqual(time.monotonic() - start, 0.2)
        self.events.poll_timeout = 20
        thread = threading.Thread(target=lambda: found.append(self.ids(POLL)))
        found = []
        thread.start()
        wait_until(lambda: self.events.waiters, 5, "the poll waits")
        self.events.add()
        thread.join(5)
        self.assertEqual([[1]], found)

    def test_empty_polls_can_be_answered_at_once(self):
        self.events.immediate_empty = True
        start = time.monotonic()
        self.assertEqual((200, []), self.ask(self.events, POLL))
        self.assertLess(time.monotonic() - start, 1)

    def test_an_id_can_become_visible_late(self):
        self.events.add("late", id=2)
        self.assertEqual([2], self.ids(POLL))
        self.events.add("early", id=1)
        self.assertEqual([1, 2], self.ids(POLL))

    def test_errors_of_events(self):
        self.assertEqual(401, self.ask(self.events, POLL + "x")[0])
        self.assertEqual((400, {"code": "InvalidContent", "message": "Invalid Client ID"}),
                         self.ask(self.events, "/events/v1/events?channel=c&secret=" + SECRET))
        self.assertEqual(404, self.ask(self.events, "/events/v1/events/events")[0])

    def test_post_and_latest(self):
        wanted = {"clientId": "c", "channel": "users/v1", "secret": harness.SECRET,
                  "from": "game-2", "type": "LOGIN", "data": {"userId": "alice"}}
        code, event = self.ask(self.events, "/events/v1/events", wanted)
        self.assertEqual((200, 1, "game-2"), (code, event["id"], event["from"]))
        self.assertEqual(400, self.ask(self.events, "/events/v1/events",
                                       dict(wanted, type=""))[0])
        self.assertEqual(401, self.ask(self.events, "/events/v1/events",
                                       dict(wanted, secret="x"))[0])
        latest = "/events/v1/latest?channel=users%2Fv1&secret=" + SECRET
        self.assertEqual([1], self.ids(latest))
        self.assertEqual([], self.events.acks)

    # -- usermeta

    def test_write_and_read_back(self):
        path = "/usermeta/v1/auth/" + SECRET + ".a%2Fb%20%C3%A9/"
        self.assertEqual((200, {}), self.ask(self.usermeta, path + "$reward$x", {"value": "1"}))
        self.assertEqual((200, {"a/b é": {"$reward$x": "1"}, "bob": {}}), self.ask(
            self.usermeta, "/usermeta/v1/a%2Fb%20%C3%A9,bob/auth,$reward$x?secret=" + SECRET))
        self.assertEqual((200, {"a/b é": {"$reward$x": "1"}}),
                         self.ask(self.usermeta, path + "auth,$reward$x"))
        self.assertEqual(["a/b é"], self.usermeta.requests[0].users)

    def test_wrong_secret_hides_on_reads_and_is_refused_on_writes(self):
        self.usermeta.put("alice", "auth", "1")
        self.assertEqual((200, {"alice": {}}),
                         self.ask(self.usermeta, "/usermeta/v1/alice/auth?secret=wrong"))
        self.assertEqual(401, self.ask(self.usermeta, "/usermeta/v1/auth/wrong.alice/auth",
                                       {"value": "1"})[0])
        self.assertEqual(401, self.ask(self.usermeta, "/usermeta/v1/auth/wrong.alice/auth")[0])

    def test_lists_are_split_and_trimmed_and_colons_throw(self):
        self.usermeta.put("a", "auth", "1")
        read = "/usermeta/v1/{}/auth?secret=" + SECRET
        self.assertEqual({"a": {"auth": "1"}, "b": {}},
                         self.ask(self.usermeta, read.format("%20a%20%2C%C2%A0b"))[1])
        self.assertEqual(400, self.ask(self.usermeta, read.format("a,,b"))[0])
        self.assertEqual(500, self.ask(self.usermeta, read.format("a:b,c"))[0])
        self.assertEqual((400, "InvalidValue"), (lambda found: (found[0], found[1]["code"]))(
            self.ask(self.usermeta, "/usermeta/v1/auth/%s.a/k" % SECRET, {"value": 1})))

    # -- virtualcurrency

    def test_reward_count_and_listing(self):
        wanted = {"to": "alice", "from": "rewards/v1", "secret": harness.SECRET, "amount": 10,
                  "currency": "gold", "data": {"rewardId": "promo1"}}
        rewards = "/virtualcurrency/v1/rewards"
        self.assertEqual(200, self.ask(self.currency, rewards, wanted)[0])
        self.assertEqual(401, self.ask(self.currency, rewards, dict(wanted, secret="x"))[0])
        self.assertEqual(400, self.ask(self.currency, rewards, dict(wanted, amount="10"))[0])
        user = "/virtualcurrency/v1/auth/%s.alice/" % SECRET
        self.assertEqual((200, [{"currency": "gold", "count": 10}]),
                         self.ask(self.currency, user + "coins/gold/count"))
        found = self.ask(self.currency, user + "transactions?reasons=reward&currencies=gold")[1]
        self.assertEqual([{"from": "rewards/v1", "rewardId": "promo1"}],
                         [made["data"] for made in found])
        self.assertEqual(401, self.ask(
            self.currency, "/virtualcurrency/v1/auth/x.alice/coins/gold/count")[0])

    def reward(self, user="alice", **changes):
        """Posts one; the status."""
        wanted = {"to": user, "from": "rewards/v1", "secret": harness.SECRET, "amount": 10,
                  "currency": "gold", "data": {"rewardId": "promo1"}}
        return self.ask(self.currency, "/virtualcurrency/v1/rewards", {**wanted, **changes})[0]

    def listed(self, query="", user="alice"):
        """The ids of the transactions."""
        code, found = self.ask(self.currency, "/virtualcurrency/v1/auth/%s.%s/transactions%s"
                               % (SECRET, user, query))
        return [made["id"] for made in found] if code == 200 else code

    def test_lists_as_it_is_told(self):
        for number in range(5):
            self.reward()
            self.currency.transactions[number]["timestamp"] = 1000 + number
        newest = ["tx-5", "tx-4", "tx-3", "tx-2", "tx-1"]
        self.assertEqual(newest, self.listed())
        self.assertEqual(newest[:3], self.listed("?limit=3"))
        self.assertEqual(newest[3:], self.listed("?before=1002"))
        self.currency.before_ignored = True
        self.assertEqual(newest, self.listed("?before=1002"))
        self.currency.page_max = 2
        self.assertEqual(newest[:2], self.listed("?limit=3"))
        self.currency.oldest_first = True
        self.assertEqual(newest[1::-1], self.listed("?limit=3"))
        self.currency.limit_ignored = True
        self.assertEqual(newest[::-1], self.listed("?limit=3"))
        self.currency.misbehave(standin.status(404), when=standin.lists)
        self.assertEqual(404, self.listed())
        self.assertEqual(200, self.reward())

    def test_a_list_is_stale_for_a_while(self):
        self.currency.stale = 0.1
        self.reward()
        self.assertEqual([], self.listed())
        wait_until(lambda: self.listed() == ["tx-1"], 5, "the reward is on the list")

    def test_rewards_that_are_given_whatever_the_answer(self):
        self.currency.misbehave(standin.status(500, apply=True), method="POST", times=1)
        self.assertEqual(500, self.reward())
        self.assertEqual(["tx-1"], self.listed())
        rule = self.currency.misbehave(standin.hang(apply=True), method="POST", times=1)
        codes = []
        thread = threading.Thread(target=lambda: codes.append(self.reward()))
        thread.start()
        wait_until(lambda: self.listed() == ["tx-2", "tx-1"], 5, "it is given")
        self.assertEqual([], codes)
        rule.release()
        thread.join(5)
        self.assertEqual([200], codes)
        self.assertEqual(["tx-2", "tx-1"], self.listed())

    def test_a_reward_that_is_given_when_nobody_waits_any_more(self):
        self.currency.misbehave(standin.late(0.1), method="POST")
        body = json.dumps({"to": "alice", "from": "f", "secret": harness.SECRET, "amount": 1,
                           "currency": "gold"}).encode()
        with socket.create_connection(("127.0.0.1", self.currency.port), timeout=5) as connection:
            connection.sendall(b"POST /virtualcurrency/v1/rewards HTTP/1.1\r\nHost: x\r\n"
                               b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.assertEqual([], self.listed())
        wait_until(lambda: self.listed() == ["tx-1"], 5, "the reward is given")

    # -- misbehaviour

    def raw(self, service, path="/usermeta/v1/bob/auth?secret=" + SECRET):
        """All bytes that come, or the OSError."""
        with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
            connection.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
            found = b""
            try:
                while True:
                    more = connection.recv(65536)
                    if not more:
                        return found
                    found += more
            except ConnectionResetError as error:
                return error

    def test_each_misbehaviour(self):
        usermeta = self.usermeta
        rule = usermeta.misbehave(standin.reset(), times=1)
        self.assertIsInstance(self.raw(usermeta), ConnectionResetError)
        self.assertEqual(1, rule.hits)
        for act, wanted in ((standin.half(), b'Content-Length: 11\r\n\r\n{"bob"'),
                            (standin.lying_length(10), b'Content-Length: 21\r\n\r\n{"bob": {}}'),
                            (standin.lying_length(-4), b'Content-Length: 7\r\n\r\n{"bob": {}}'),
                            (standin.close(), b"")):
            usermeta.well()
            usermeta.misbehave(act)
            self.assertTrue(self.raw(usermeta).endswith(wanted))
        path = "/usermeta/v1/bob/auth?secret=" + SECRET
        usermeta.well()
        usermeta.misbehave(standin.status(503), user="bob", times=1)
        self.assertEqual(503, self.ask(usermeta, path)[0])
        self.assertEqual((200, {"bob": {}}), self.ask(usermeta, path))

    def test_answer_after_applying_then_reset(self):
        self.usermeta.misbehave(standin.reset(apply=True), method="POST")
        with self.assertRaises((http.client.HTTPException, OSError)):
            self.ask(self.usermeta, "/usermeta/v1/auth/%s.bob/k" % SECRET, {"value": "v"})
        self.assertEqual("v", self.usermeta.get("bob", "k"))

    def test_hang_until_released(self):
        rule = self.usermeta.misbehave(standin.hang())
        found = []
        path = "/usermeta/v1/bob/auth?secret=" + SECRET
        thread = threading.Thread(target=lambda: found.append(self.ask(self.usermeta, path)))
        thread.start()
        wait_until(lambda: rule.held, 5, "the request hangs")
        rule.release()
        thread.join(5)
        self.assertEqual([(200, {"bob": {}})], found)

    def test_stopped_and_back_on_its_port(self):
        port = self.events.port
        self.events.immediate_empty = True
        self.ask(self.events, POLL)
        self.events.stop()
        with self.assertRaises(OSError):
            self.ask(self.events, POLL)
        self.events.start()
        self.assertEqual(port, self.events.port)
        self.assertEqual((200, []), self.ask(self.events, POLL))

    def test_requests_are_recorded_as_they_came(self):
        self.ask(self.usermeta, "/usermeta/v1/%2e%2E/auth?secret=" + SECRET)
        request = self.usermeta.requests[-1]
        self.assertEqual(b"/usermeta/v1/%2e%2E/auth?secret=" + SECRET.encode(), request.target)
        self.assertEqual("127.0.0.1:%d" % self.usermeta.port, request.header("Host"))
        self.assertEqual(200, request.status)

    def test_fast_enough_on_kept_alive_connections(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.usermeta.port, timeout=5)
        start, count = time.monotonic(), 500
        for _ in range(count):
            connection.request("GET", "/usermeta/v1/bob/auth?secret=" + SECRET)
            self.assertEqual(b'{"bob": {}}', connection.getresponse().read())
        connection.close()
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(1, len({request.connection for request in self.usermeta.requests}))


if __name__ == "__main__":
    harness.main()
