"""test_strangers.py - who has no business on the bus: without a key, with the
wrong one, with another role's, with a valid one and rubbish, and in thousands.

Each is refused or dropped, counted, told of once a minute at most; and players
are served meanwhile as if nobody was there.
"""
import os
import resource
import selectors
import socket
import time

import msgpack
import zmq
from zmq.auth import load_certificate

import harness
import shapes
from harness import wait_until
from shapes import CURRENCY, DECISION, INGEST, STATS, USERMETA

CONNECTIONS = 10000
DESCRIPTORS_SPARE = 2000
REWARD_SECONDS = 20 if harness.sanitized() else 3
REST_SECONDS = 20
RSS_GROWTH_KB_MAX = 32 << 10
PLAYERS = 50
PROTOCOL_VERSION = 1
HELLO, EVENT = 13, 3
INGEST_NUMBER = 1
MESSAGE_SIZE_MAX = 1 << 20


def head(sequence=0, incarnation=4711):
    return msgpack.packb([incarnation, sequence, 0, 0])


def hello(role=INGEST_NUMBER, index=7, incarnation=4711):
    return msgpack.packb([PROTOCOL_VERSION, HELLO, 0, role, index, incarnation, PROTOCOL_VERSION,
                          PROTOCOL_VERSION, 0, "0"])


def rubbish():
    """Messages of one, two or more frames that make no sense, and some that do
    at first."""
    nested = b"\x91" * 5000
    yield from ([b""], [b"", b""], [b"\xc1"], [os.urandom(1000)], [b"x"] * 100)
    yield from ([bytes([byte]) * 40, b"y"] for byte in range(0, 256, 5))
    yield [head() + hello()]
    yield [head() + hello(role=99)]
    yield [head() + hello(index=2 ** 63)]
    yield [head(1) + b""]
    yield [head(1) + nested]
    yield [head(2 ** 64 - 1) + b"\xdd\xff\xff\xff\xff"]
    yield [head(2) + b"\xdf\xff\xff\xff\xff"]
    yield [head(1) + msgpack.packb([PROTOCOL_VERSION, EVENT, 0, "no batch"])]
    yield [head(2) + msgpack.packb([PROTOCOL_VERSION, EVENT, 0, [[2 ** 63, -1, b"\xff", None, 7]]])]
    yield [head(3) + msgpack.packb([PROTOCOL_VERSION, 250, 0])]
    yield [head(4) + b"z" * (MESSAGE_SIZE_MAX - 100)]
    yield [head(5) + b"z" * (MESSAGE_SIZE_MAX + 1)]
    yield [b"\xc0" * 100000]


class Strangers(harness.Case):
    shape = shapes.SHAPES["tcp-curve"]

    def setUp(self):
        super().setUp()
        self.context = zmq.Context()
        self.addCleanup(self.context.destroy, 0)
        self.fleet = self.worker().wait_ready()
        self.keys = self.fleet["decision"].env["CURVE_DIR"]
        self.rss_before = {member.name: member.rss_kb() for member in self.fleet}
        self.served = 0
        self.forgotten = 0  # events that an ingest counted that was killed since, with their outcome
        self.flow("before")

    # -- the flow

    def flow(self, prefix):
        """Players log in one by one, as players do; each is rewarded soon."""
        users = ["%s%d" % (prefix, number) for number in range(PLAYERS)]
        self.world.players(users)
        for user in users:
            self.events.add(user)
            wait_until(lambda: self.rewards_of(user), REWARD_SECONDS, "a reward for " + user)
        self.served += len(users)

    def tearDown(self):
        try:
            counted = self.served - self.forgotten
            there = (counted, counted, 0, 0)
            wait_until(lambda: self.fleet.counters() == there, REST_SECONDS,
                       "the counters are %r" % (there,))
            self.assertEqual({1}, set(self.rewarded().values()))
            self.assertEqual(self.served, len(self.rewarded()))
            for member in self.fleet:
                if not harness.sanitized():
                    self.assertLess(member.rss_kb() - self.rss_before[member.name],
                                    RSS_GROWTH_KB_MAX, "kB more in " + member.name)
                told = [line for line in member.log_lines()
                        if line["msg"].startswith("refused connections")]
                self.assertLessEqual(len(told), 1, told)
            self.fleet.stop()
        finally:
            super().tearDown()

    # -- strangers

    def endpoint(self, role):
        return self.fleet[INGEST].env[shapes.variable(role) + "_ENDPOINT"]

    def public(self, name):
        return load_certificate(os.path.join(self.keys, name + ".cert"))[0]

    def pair(self, name):
        return load_certificate(os.path.join(self.keys, name + ".cert_secret"))

    def dealer(self, role, pair=None, server=None, identity=b"ingest/7"):
        """A socket at the door of a role."""
        stranger = self.context.socket(zmq.DEALER)
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.setsockopt(zmq.ROUTING_ID, identity)
        stranger.setsockopt(zmq.SNDTIMEO, 1000)
        stranger.setsockopt(zmq.RECONNECT_IVL, 20)
        if pair:
            stranger.curve_publickey, stranger.curve_secretkey = pair
            stranger.curve_serverkey = server or self.public(role)
        stranger.connect(self.endpoint(role))
        return stranger

    def counted(self, role, reason):
        return self.fleet[role].metrics().get('guerdon_refused_total{reason="%s"}' % reason, 0)

    def dropped(self, role):
        return self.fleet[role].metrics().get(
            'guerdon_messages_total{actor="%s",direction="dropped"}' % role, 0)

    def refused(self, role, reason, stranger):
        """It speaks, is not heard, is counted; and players are served."""
        for message in rubbish():
            try:
                stranger.send_multipart(message, zmq.DONTWAIT)
            except zmq.Again:
                break
        wait_until(lambda: self.counted(role, reason) > 0, 10,
                   "%s counts %s" % (role, reason))
        self.flow("meanwhile")
        self.assertEqual(0, stranger.poll(0), "it is answered")

    def test_without_a_key(self):
        self.refused(DECISION, "handshake", self.dealer(DECISION))

    def test_with_a_key_of_its_own(self):
        self.refused(DECISION, "unknown_key", self.dealer(DECISION, zmq.curve_keypair()))

    def test_expecting_another_at_the_other_end(self):
        pair = self.pair(INGEST)
        self.refused(DECISION, "handshake", self.dealer(DECISION, pair, self.public(STATS)))

    def test_with_the_key_of_another_role(self):
        for role, others in ((DECISION, (STATS, USERMETA, CURRENCY, "tap")),
                             (CURRENCY, (INGEST, USERMETA, STATS, "tap")),
                             (USERMETA, (INGEST, CURRENCY, STATS, "tap"))):
            strangers = [self.dealer(role, self.pair(other), identity=b"decision/0")
                         for other in others]
            before = self.counted(role, "wrong_role")
            wait_until(lambda: self.counted(role, "wrong_role") >= before + len(others), 10,
                       "%s counts wrong roles" % role)
            for stranger in strangers:
                self.assertEqual(0, stranger.poll(0))
        self.flow("meanwhile")

    def test_a_role_that_claims_to_be_another(self):
        # Both may count; but who has decision's key is not ingest.
        stranger = self.dealer(STATS, self.pair(DECISION), identity=b"ingest/0")
        stranger.send_multipart([head() + hello(index=0)])
        wait_until(lambda: self.dropped(STATS) + self.counted(STATS, "claim") > 0, 10,
                   "the claim is counted")
        self.flow("meanwhile")
        stranger.close()
        self.flow("afterwards")

    def test_a_valid_key_and_hostile_bytes(self):
        before = self.dropped(DECISION)
        for identity in (b"ingest/7", b"ingest/", b"nobody", b"x" * 255, b"ingest/99999999999",
                         b"decision/0"):
            stranger = self.dealer(DECISION, self.pair(INGEST), identity=identity)
            for message in rubbish():
                try:
                    stranger.send_multipart(message)
                except zmq.Again:
                    break
        wait_until(lambda: self.dropped(DECISION) > before, 10, "what makes no sense is counted")
        self.flow("meanwhile")
        self.assertTrue(self.fleet[DECISION].alive())

    def test_a_valid_key_under_the_name_of_the_one_that_is_there(self):
        # It takes the place of the real one, until that is back.
        stranger = self.dealer(DECISION, self.pair(INGEST), identity=b"ingest/0")
        for message in rubbish():
            try:
                stranger.send_multipart(message)
            except zmq.Again:
                break
        stranger.close()
        self.flow("afterwards")

    def test_rubbish_on_the_sockets(self):
        host, port = self.endpoint(DECISION).rpartition("/")[2].split(":")
        greeting = b"\xff" + b"\0" * 8 + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + b"\0" * 32
        for content in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1000, b"\xff" * 100000, greeting[:20],
                        greeting, greeting + b"\x04\xff" + b"\5HELLO" + b"x" * 500,
                        greeting + b"\x06" + b"\xff" * 8, os.urandom(5000)):
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                try:
                    connection.sendall(content)
                except OSError:
                    pass  # it may well hang up on us
        self.flow("meanwhile")

    def test_ten_thousand_connections(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        if hard < CONNECTIONS + DESCRIPTORS_SPARE:
            self.skipTest("a process may have only %d descriptors" % hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (CONNECTIONS + DESCRIPTORS_SPARE, hard))
        host, port = self.endpoint(DECISION).rpartition("/")[2].split(":")
        crowd = Crowd((host, int(port)))
        self.addCleanup(crowd.close)
        for part in range(1, 11):
            crowd.grow(CONNECTIONS * part // 10)
            self.flow("among%d-" % crowd.tried)
        print("10,000 connections: %d stood at once; resident %d kB, before %d kB" % (
            crowd.most, self.fleet[DECISION].rss_kb(), self.rss_before[DECISION]))
        # Who comes back in the middle of it is let in. What was not acknowledged would come
        # again, and count again.
        self.wait_acked(self.events.last())
        self.forgotten = self.served
        self.fleet.restart(INGEST).wait_ready(20)
        self.rss_before[INGEST] = self.fleet[INGEST].rss_kb()
        crowd.close()
        self.flow("afterwards")


class Crowd:
    """Connections that say nothing."""

    def __init__(self, address):
        self.address, self.tried, self.most = address, 0, 0
        self.sockets = []
        self.selector = selectors.DefaultSelector()

    def grow(self, count):
        """Tries until so many were made; those that were hung up on are let go."""
        while self.tried < count:
            for _ in range(min(100, count - self.tried)):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(self.address)
                self.selector.register(one, selectors.EVENT_READ)
                self.sockets.append(one)
                self.tried += 1
            self.tidy()

    def tidy(self):
        for key, _ in self.selector.select(0):
            try:
                over = key.fileobj.recv(65536) == b""
            except BlockingIOError:
                over = False
            except OSError:
                over = True
            if over:
                self.selector.unregister(key.fileobj)
                self.sockets.remove(key.fileobj)
                key.fileobj.close()
        self.most = max(self.most, len(self.sockets))

    def close(self):
        for one in self.sockets:
            one.close()
        self.sockets = []
        self.selector.close()


if __name__ == "__main__":
    harness.main()
