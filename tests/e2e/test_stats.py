"""test_stats.py - counters, StatsD, and the status pages."""
import http.client
import json
import re
import socket
import urllib.parse

import harness
from harness import wait_until


class StatsdCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.statsd = harness.Statsd()
        self.addCleanup(self.statsd.close)

    def mixed(self):
        """Two rewards, a failure, three ignored."""
        self.world.players(["alice", "bob"])
        self.events.add_many([dict(user="alice"), dict(user="bob"), dict(user="a:b"),
                              dict(user="alice"), dict(user="stranger"), dict(type="CREATE")])
        return (6, 2, 1, 3)

    def named(self, prefix, counters):
        return {prefix + name: count for name, count in
                zip(("events", "success", "failure", "ignored"), counters) if count}

    def totals(self, prefix, counters):
        wanted = self.named(prefix, counters)
        try:
            wait_until(lambda: self.statsd.totals() == wanted, 10)
        except AssertionError:
            self.assertEqual(wanted, self.statsd.totals())

    def test_totals_under_the_default_prefix(self):
        counters = self.mixed()
        worker = self.worker(STATSD_HOST=self.statsd.address, STATSD_PORT=self.statsd.port)
        self.assertEqual(counters, self.wait_rest(worker, 6))
        self.totals("mailchimp.registrations.", counters)
        worker.stop()
        self.assertEqual(self.named("mailchimp.registrations.", counters), self.statsd.totals())

    def test_the_prefix_is_glued_on_as_it_is(self):
        counters = self.mixed()
        self.worker(STATSD_HOST=self.statsd.address, STATSD_PORT=self.statsd.port, STATSD_PREFIX="x-")
        self.totals("x-", counters)

    def test_totals_of_thousands_with_the_end_in_between(self):
        users = ["u%d" % n for n in range(2000)]
        self.events.add_logins(users)
        worker = self.worker(STATSD_HOST=self.statsd.name, STATSD_PORT=self.statsd.port)
        self.wait_acked(2000)
        worker.stop()
        self.assertEqual(self.named("mailchimp.registrations.", (2000, 0, 0, 2000)),
                         self.statsd.totals())
        self.assertLess(max(len(datagram) for datagram in self.statsd.datagrams), 1433)

    def nothing_sent(self, **env):
        counters = self.mixed()
        worker = self.worker(**env)
        self.assertEqual(counters, self.wait_rest(worker, 6))
        worker.stop()
        self.assertEqual([], self.statsd.read())

    def test_nothing_is_sent_without_a_host(self):
        self.nothing_sent(STATSD_PORT=self.statsd.port)

    @harness.one_process("the well-known port is looked at on this host")
    def test_nothing_is_sent_without_a_port(self):
        standard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(standard.close)
        try:
            standard.bind(("127.0.0.1", 8125))
        except OSError:
            self.skipTest("somebody has port 8125")
        standard.setblocking(False)
        self.nothing_sent(STATSD_HOST="127.0.0.1")
        with self.assertRaises(BlockingIOError):
            standard.recv(100)

    def test_nobody_at_statsd_hurts_nobody(self):
        port = self.statsd.port
        self.statsd.close()
        self.mixed()
        worker = self.worker(STATSD_HOST=self.statsd.address, STATSD_PORT=port)
        self.wait_rest(worker, 6)
        self.wait_acked(6)
        worker.stop()


@harness.one_process("the pages, which each process serves alike")
class Status(harness.Case):
    def test_about(self):
        worker = self.worker().wait_ready()
        code, headers, content = worker.get("/about")
        self.assertEqual(200, code)
        self.assertEqual("application/json; charset=utf-8", headers["content-type"].lower())
        about = json.loads(content)
        self.assertEqual({"hostname", "type", "version", "description", "startDate"}, set(about))
        self.assertEqual(("rewards", socket.gethostname()), (about["type"], about["hostname"]))
        self.assertRegex(about["startDate"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
        self.assertEqual(about, json.loads(worker.get("/rewards/v1/about")[2]))
        self.assertTrue(headers.get("x-request-id"))

    def test_ping_gives_the_token_back(self):
        worker = self.worker().wait_ready()
        for base in ("/ping/", "/rewards/v1/ping/"):
            for token in ("x", "_health_check", "a b é", "q\"u\\o", "0" * 200):
                code, headers, content = worker.get(base + urllib.parse.quote(token))
                self.assertEqual(200, code)
                self.assertEqual("pong/" + token, json.loads(content))
                self.assertTrue(headers.get("x-request-id"))
            self.assertEqual(b'"pong/x"', worker.get(base + "x")[2])
            code, headers, content = worker.get(base + "x", "HEAD")
            self.assertEqual((200, b""), (code, content))

    def test_the_request_id_comes_back(self):
        worker = self.worker().wait_ready()
        connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=5)
        self.addCleanup(connection.close)
        connection.request("GET", "/ping/x", headers={"X-Request-Id": "abc-1"})
        self.assertEqual("abc-1", connection.getresponse().getheader("x-request-id"))

    def test_health_ready_and_the_unknown(self):
        worker = self.worker().wait_ready()
        self.assertEqual(200, worker.get("/health")[0])
        self.assertEqual(404, worker.get("/nowhere")[0])
        self.assertIn(worker.get("/about", "DELETE")[0], (404, 405))
        self.assertEqual(200, worker.ready()[0])

    def test_metrics_are_in_the_text_format(self):
        self.world.players(["alice"])
        self.events.add("alice")
        worker = self.worker().wait_ready()
        self.assertEqual((1, 1, 0, 0), self.wait_rest(worker, 1))
        code, headers, content = worker.get("/metrics")
        self.assertEqual(200, code)
        self.assertTrue(headers["content-type"].startswith("text/plain"))
        self.assertTrue(content.endswith(b"\n"))
        name = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
        for line in content.decode().splitlines():
            self.assertRegex(line, r"\A(# (HELP|TYPE) %s .*|%s(\{.*\})? [-+0-9.eE]+( \d+)?|)\Z"
                             % (name, name))
        metrics = worker.metrics()
        self.assertEqual(0, metrics['guerdon_in_flight{actor="ingest"}'])
        types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", content.decode(), re.M))
        self.assertEqual("counter", types["guerdon_events_total"])
        self.assertEqual("gauge", types["guerdon_in_flight"])

    def test_rubbish_on_the_status_port_hurts_nobody(self):
        worker = self.worker().wait_ready()
        for rubbish in (b"\0" * 1000, b"GET\r\n\r\n", b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\n\r\n",
                        b"POST /about HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", worker.port), timeout=5) as connection:
                try:
                    connection.sendall(rubbish)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(4096)
                except OSError:
                    pass  # it may well hang up on us
        self.assertEqual(b'"pong/x"', worker.get("/ping/x")[2])
        worker.stop()


if __name__ == "__main__":
    harness.main()
