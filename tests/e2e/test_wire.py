"""test_wire.py - request by request, what the worker sends is what the reference says."""
import os
import re
import ssl
import subprocess
import time

import harness
from harness import CLIENT, MARKER, SECRET, quoted, wait_until

ODD_USERS = ["a/b é", "../x", ".", "..", "?", "#", "%", "+", "%2e%2e", "a\0b", "line\nbreak",
             "a,b", " outer spaces ", "\u00a0nbsp", "tab\t", "&secret=x", "a=b;c", "\\back", "~!'()*",
             "{secret}", "x" * 7000, "é" * 2000, "日本語", "\U0001f3c6", "\"quote\"", "\x7f\x01"]


class Wire(harness.Case):
    def first(self, requests, what="a request"):
        return wait_until(lambda: requests and requests[0], 10, what)

    def login(self, user="alice", **env):
        """A simple LOGIN, start to end; the worker."""
        self.world.players([user])
        self.events.add(user)
        worker = self.worker(**env)
        self.wait_rewarded([user])
        self.wait_acked(1)
        return worker

    def test_login_request_by_request(self):
        before = time.time() * 1000
        self.login()
        after = time.time() * 1000
        poll = self.events.polls[0]
        read = self.reads_of("alice")[0]
        marker = self.marker_writes("alice")[0]
        post = self.posts_of("alice")[0]

        self.assertEqual(("GET", b"/events/v1/events"), (poll.method, poll.path))
        params = poll.params()
        self.assertEqual({"clientId", "channel", "secret", "limit"}, set(params))
        self.assertEqual((CLIENT, "users/v1", SECRET),
                         (params["clientId"], params["channel"], params["secret"]))
        self.assertRegex(params["limit"], r"\A[1-9][0-9]*\Z")

        self.assertEqual("GET", read.method)
        self.assertRegex(read.path.decode(),
                         r"\A/usermeta/v1/alice/auth(,|%2C)(\$|%24)reward(\$|%24)promo1\Z")
        self.assertEqual({"secret": SECRET}, read.params())

        self.assertEqual(("POST", b""), (marker.method, marker.query))
        self.assertRegex(marker.path.decode(), r"\A/usermeta/v1/auth/%s\.alice/"
                         r"(\$|%%24)reward(\$|%%24)promo1\Z" % re.escape(quoted(SECRET)))
        self.assertEqual(["value"], list(marker.json()))
        value = marker.json()["value"]
        self.assertRegex(value, r"\A[1-9][0-9]{12}\Z")
        self.assertTrue(before - 5000 <= int(value) <= after + 5000, value)
        self.assertTrue(marker.header("content-type").startswith("application/json"))

        self.assertEqual(("POST", b"/virtualcurrency/v1/rewards"), (post.method, post.target))
        self.assertTrue(post.header("content-type").startswith("application/json"))
        self.assertEqual([("to", "alice"), ("from", "rewards/v1"), ("secret", SECRET),
                          ("amount", 10), ("currency", "gold"), ("data", {"rewardId": "promo1"})],
                         list(post.json().items()))
        self.assertIs(int, type(post.json()["amount"]))

        self.assertLess(read.answered_at, marker.at)
        self.assertLess(marker.answered_at, post.at)
        self.assertEqual((1, 1, 1), (len(self.reads_of("alice")),
                                     len(self.marker_writes("alice")), len(self.posts_of("alice"))))
        acks = [text for _, client, _, text in self.events.acks if client == CLIENT]
        self.assertEqual("1", acks[-1])
        self.assertIn(quoted(SECRET).encode(), poll.target)

    def test_probes_come_before_the_first_poll(self):
        self.login()
        poll = self.events.polls[0]
        meta = [request for request in self.usermeta.requests
                if request.number < poll.number and request.method == "POST"]
        coins = [request for request in self.currency.requests if request.number < poll.number]
        self.assertTrue(meta and meta[0].status == 200 and meta[0].answered_at < poll.at)
        self.assertTrue(coins and coins[0].status == 200 and coins[0].answered_at < poll.at)
        self.assertNotIn("alice", meta[0].users)
        self.assertEqual(200, coins[0].status)
        self.assertEqual("GET", coins[0].method)

    def test_only_documented_requests_are_made(self):
        self.login()
        for request in self.world.requests:
            self.assertEqual(200 if request.answered_at else None, request.status, request)

    def test_connections_are_kept(self):
        users = ["u%d" % n for n in range(200)]
        self.world.players(users)
        self.events.add_logins(users)
        self.worker()
        self.wait_rewarded(users)
        for service in self.world.services:
            self.assertLessEqual(len({request.connection for request in service.requests}), 40)
        self.assertLessEqual(len([request for request in self.usermeta.requests
                                  if request.method == "GET"]), 100, "reads are batched")

    def test_user_ids_of_any_byte(self):
        self.world.players(ODD_USERS)
        self.events.add_logins(ODD_USERS)
        worker = self.worker()
        self.wait_rewarded(ODD_USERS, 30)
        self.assert_each_once(ODD_USERS)
        count = len(ODD_USERS)
        self.assertEqual((count, count, 0, 0), self.wait_rest(worker, count))
        for user in ODD_USERS:
            writes = self.marker_writes(user)
            self.assertEqual(1, len(writes), user[:40])
            self.assertTrue(writes[0].path.startswith(b"/usermeta/v1/auth/"))
            self.assertRegex(self.usermeta.get(user, MARKER), r"\A[0-9]{13}\Z")
            self.assertEqual(user, self.posts_of(user)[0].json()["to"])
        for request in self.world.requests:
            self.assertRegex(request.target, rb"\A[!-~]+\Z")

    def test_commas_and_outer_spaces_go_by_the_token_route(self):
        users = ["a,b", " padded", "padded\u3000", "a", "b", "padded"]
        self.world.players(users[:3])
        self.events.add_logins(users)
        worker = self.worker()
        self.assertEqual((6, 3, 0, 3), self.wait_rest(worker, 6))
        self.assert_each_once(users[:3])
        for user in users[:3]:
            for request in self.reads_of(user):
                self.assertTrue(request.path.startswith(b"/usermeta/v1/auth/"), request)

    def test_configured_names_are_sent_encoded(self):
        names = {"EVENTS_CLIENT_ID": "wörker & co+1", "EVENTS_CHANNEL": "users/v2?é",
                 "REWARD_APP_1_USER_LOGIN_APP_2_CURRENCY": "gold/é\"",
                 "REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT": "-9007199254740991",
                 "REWARD_APP_1_USER_LOGIN_APP_2_ID": "A.b_c-9", "APP_2_NAME": "game two/é"}
        self.world.players(["alice"])
        self.events.add_many([dict(user="alice", source="game two/é")], "users/v2?é")
        self.worker(**names)
        self.wait_rewarded(["alice"])
        params = self.events.polls[0].params()
        self.assertEqual(("wörker & co+1", "users/v2?é"), (params["clientId"], params["channel"]))
        body = self.posts_of("alice")[0].json()
        self.assertEqual(("gold/é\"", -9007199254740991, {"rewardId": "A.b_c-9"}),
                         (body["currency"], body["amount"], body["data"]))
        self.assertIsNotNone(self.usermeta.get("alice", "$reward$A.b_c-9"))

    def test_after_is_canonical_for_large_ids(self):
        self.world.players(["alice", "bob"])
        self.events.add("alice", id=2 ** 53 - 2)
        self.events.add("bob", id=2 ** 53 - 1)
        self.worker(GAP_GRACE_MS=50)
        self.wait_acked(2 ** 53 - 1)
        self.assert_each_once(["alice", "bob"])

    def test_a_position_that_the_service_remembers_is_kept(self):
        self.events.positions[(CLIENT, "users/v1")] = 2
        self.world.players(["old1", "old2", "new"])
        self.events.add_logins(["old1", "old2", "new"])
        self.worker()
        self.wait_acked(3)
        self.assert_each_once(["new"])
        self.assertGreaterEqual(min(int(ack[3]) for ack in self.events.acks), 2)

    def prefixes(self, events, usermeta, currency, **env):
        self.events.prefix, self.usermeta.prefix, self.currency.prefix = events, usermeta, currency
        self.login(**env)
        self.assertEqual(events.encode() + b"/events", self.events.polls[0].path)
        self.assertEqual(currency.encode() + b"/rewards", self.posts_of("alice")[0].path)

    def test_prefixes_without_trailing_slash(self):
        self.prefixes("/a/b", "/c", "/d/e/f", EVENTS_PREFIX="/a/b", APP_1_USERMETA_PREFIX="/c",
                      APP_1_VIRTUALCURRENCY_PREFIX="/d/e/f")

    def test_prefixes_with_trailing_slash(self):
        self.prefixes("/a/b", "/c", "/d/e/f", EVENTS_PREFIX="/a/b/", APP_1_USERMETA_PREFIX="/c//",
                      APP_1_VIRTUALCURRENCY_PREFIX="/d/e/f/")

    def test_secret_from_a_file(self):
        path = os.path.join(self.state_dir, "secret")
        with open(path, "w", encoding="utf-8") as file:
            file.write(SECRET + "\n")
        self.login(API_SECRET=None, API_SECRET_FILE=path)
        self.assertEqual(SECRET, self.posts_of("alice")[0].json()["secret"])

    def test_variables_from_an_env_file(self):
        path = os.path.join(self.state_dir, "worker.env")
        with open(path, "w", encoding="utf-8") as file:
            file.write("# how it is run here\nexport APP_2_NAME='game-9'\n"
                       "REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT=\"25\"\n")
        self.world.players(["alice"])
        self.events.add("alice", source="game-9")
        self.worker(("run", "--env-file", path), APP_2_NAME=None,
                    REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT=None)
        self.wait_rewarded(["alice"])
        self.assertEqual(25, self.posts_of("alice")[0].json()["amount"])

    def test_a_proxy_in_the_environment_never_sees_the_secret(self):
        proxy = "http://127.0.0.1:%d" % harness.free_port()
        self.login(http_proxy=proxy, HTTP_PROXY=proxy, all_proxy=proxy, ALL_PROXY=proxy)
        self.assert_each_once(["alice"])

    def test_app_2_links_are_not_read(self):
        self.login(APP_2_USERMETA_PORT_8000_TCP_ADDR="127.0.0.1",
                   APP_2_USERMETA_PORT_8000_TCP_PORT="1",
                   APP_2_VIRTUALCURRENCY_PORT_8000_TCP_ADDR="127.0.0.1",
                   APP_2_VIRTUALCURRENCY_PORT_8000_TCP_PORT="1")
        self.assert_each_once(["alice"])


class Tls(harness.Case):
    """All three services on https, with a certificate of our own making."""

    def prepare(self):
        self.certificate = os.path.join(self.state_dir, "ca.pem")
        key = os.path.join(self.state_dir, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out",
                        self.certificate, "-days", "2", "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=IP:%s,DNS:localhost" % self.world.address], check=True, timeout=30,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        for service in self.world.services:
            service.tls = context
        self.env = {name + "_PORT_8000_TCP_PROTOCOL": "https" for name in
                    ("EVENTS", "APP_1_USERMETA", "APP_1_VIRTUALCURRENCY")}

    def test_a_trusted_certificate_is_accepted(self):
        self.world.players(["alice"])
        self.events.add("alice")
        self.worker(SSL_CERT_FILE=self.certificate, **self.env)
        self.wait_rewarded(["alice"])
        self.wait_acked(1)
        self.assert_each_once(["alice"])

    def test_an_unknown_certificate_is_refused_and_named(self):
        self.events.add("alice")
        worker = self.worker(**self.env)
        text = wait_until(lambda: (lambda code, text: code == 503 and "usermeta" in text and
                                   re.search("certificate", text, re.I) and text)(*worker.ready()),
                          10, "/ready names the service and the certificate")
        self.assertIn("usermeta", text)
        self.assertEqual([], self.world.requests)
        worker.stop()


if __name__ == "__main__":
    harness.main()
