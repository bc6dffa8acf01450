"""standin.py - the three services the worker talks to, faithful and misbehaving.

Events, usermeta and virtualcurrency on three HTTP/1.1 servers of one address,
with the wire format of the real ones, in one thread with one event loop. Each
can be stopped and started again on its port. Every request is recorded as it
came, byte for byte. A service does as its Rules say before it does right:
error, reset, hang, half a reply, and so on.

Times are time.monotonic () seconds.
"""
import asyncio
import bisect
import errno
import itertools
import json
import os
import random
import re
import socket
import struct
import threading
import time
import urllib.parse

CANONICAL = re.compile(r"\A(0|[1-9][0-9]*)\Z")
POSITION_MAX = 2 ** 53 - 1
# What JavaScript's trim () removes.
JS_SPACE = ("\t\n\x0b\x0c\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
            "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff")
HEAD_SIZE_MAX = 1 << 20
PORT_FIRST, PORTS_A_BLOCK, PORT_BLOCKS = 12000, 200, 100
WAIT = object()  # the answer comes later


def claimed_ports():
    """Ports that no other test program gives away meanwhile, one after another,
    for ever. They are outside of the range that the system gives to outgoing
    connections, so that a service can come back on its port. The claim is a
    socket with a name that only one can have, and ends with this program."""
    claim = socket.socket(socket.AF_UNIX)
    blocks = list(range(PORT_BLOCKS))
    random.shuffle(blocks)
    for block in blocks:
        try:
            claim.bind("\0guerdon-test-ports-%d" % block)
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    else:
        raise RuntimeError("no free ports")
    first = PORT_FIRST + block * PORTS_A_BLOCK
    while True:
        yield from range(first, first + PORTS_A_BLOCK)


ports = claimed_ports()
ports_lock = threading.Lock()


def listening_socket(address="127.0.0.1"):
    """A listener on a port of ours that nobody has."""
    for _ in range(PORTS_A_BLOCK):
        with ports_lock:
            port = next(ports)
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen(512)
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
    raise RuntimeError("no free port")


def percent_decoded(part):
    """As decodeURIComponent: UnicodeDecodeError on what is not UTF-8."""
    return urllib.parse.unquote_to_bytes(part).decode("utf-8")


class Request:
    """A request as it came, and how it was answered."""
    __slots__ = ("number", "service", "connection", "method", "target", "path", "query",
                 "headers", "body", "at", "wall_ms", "answered_at", "status", "users", "rule")

    def params(self):
        """The query's parameters, decoded; a name twice is an error here."""
        found = {}
        for pair in self.query.split(b"&") if self.query else []:
            name, _, value = pair.partition(b"=")
            name = urllib.parse.unquote_plus(name.decode("latin-1"), errors="strict")
            assert name not in found, "parameter %s twice" % name
            found[name] = urllib.parse.unquote_plus(value.decode("latin-1"), errors="strict")
        return found

    def json(self):
        return json.loads(self.body)

    def header(self, name):
        return dict(self.headers).get(name.lower().encode(), b"").decode("latin-1")

    def __repr__(self):
        return "<%d %s %s %r %r -> %s>" % (self.number, self.service, self.method,
                                           self.target[:200], self.body[:200], self.status)


class Rule:
    """What a service does instead of right, for the requests that `when` picks."""

    def __init__(self, service, act, when, times):
        self.service, self.act, self.when, self.times = service, act, when, times
        self.hits = 0
        self.held = []

    def remove(self):
        self.service.rules = [rule for rule in self.service.rules if rule is not self]

    def release(self):
        """Ends the rule; what hangs is now answered as it should be."""
        self.remove()

        def answer():
            held, self.held = self.held, []
            for connection, request, done in held:
                if connection.closed:
                    continue
                if done:
                    connection.reply(request, *done)
                else:
                    self.service.serve(connection, request)
        self.service.world.call(answer)


# ---- misbehaviour: each makes an act (rule, connection, request) --------------

def status(code, body=None, headers=(), apply=False):
    def act(rule, connection, request):
        if apply:
            rule.service.immediately(request)
        content = body if body is not None else json.dumps(
            {"code": "Error%d" % code, "message": "status %d" % code}).encode()
        connection.reply(request, code, content, headers)
    return act


def body(content, apply=False):
    """200 with these bytes, whatever they are; or with f (the right bytes)."""
    def act(rule, connection, request):
        right = rule.service.immediately(request)[1] if apply or callable(content) else b""
        connection.reply(request, 200, content(right) if callable(content) else content)
    return act


def not_json(apply=False):
    return body(b"<html>\x00 oops", apply)


def truncated_json():
    return body(lambda right: right[:max(1, len(right) * 2 // 3)])


def reset(apply=False):
    def act(rule, connection, request):
        if apply:
            rule.service.immediately(request)
        connection.reset()
    return act


def close(apply=False):
    """Reads the request and closes, without a word."""
    def act(rule, connection, request):
        if apply:
            rule.service.immediately(request)
        connection.transport.close()
    return act


def hang(apply=False):
    """Answers when the rule is released; what it asks is done then, or at once."""
    def act(rule, connection, request):
        done = rule.service.immediately(request) if apply else None
        rule.held.append((connection, request, done))
    return act


def late(seconds):
    """Does what is asked after a while, also when nobody waits any more."""
    def act(rule, connection, request):
        def do():
            code, content = rule.service.immediately(request)
            connection.reply(request, code, content)
        rule.service.world.loop.call_later(seconds, do)
    return act


def slow(seconds):
    def act(rule, connection, request):
        def late():
            if not connection.closed:
                rule.service.serve(connection, request)
        rule.service.world.loop.call_later(seconds, late)
    return act


def half(apply=True, extra=0):
    """The head with the right length (and `extra` more), half of the body, end."""
    def act(rule, connection, request):
        code, content = rule.service.immediately(request) if apply else (200, b'{"a": "bcdef"}')
        connection.write_head(code, len(content) + extra, ())
        connection.transport.write(content[:(len(content) + 1) // 2])
        connection.transport.close()
    return act


def lying_length(difference, apply=True):
    """The whole body under a length that is not its own. What a positive
    difference promises never comes: the connection is closed."""
    def act(rule, connection, request):
        code, content = rule.service.immediately(request) if apply else (200, b'{"a": "bcdef"}')
        connection.write_head(code, max(0, len(content) + difference), ())
        connection.transport.write(content)
        connection.transport.close()
    return act


class Connection(asyncio.Protocol):
    """One connection: requests one after another, kept alive."""

    def __init__(self, service):
        self.service = service
        self.buffer = bytearray()
        self.busy = self.pumping = self.closed = False

    def connection_made(self, transport):
        self.transport = transport
        self.number = next(self.service.connection_numbers)
        self.service.connections.add(self)
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, _error):
        self.closed = True
        self.service.connections.discard(self)
        self.service.lost(self)

    def data_received(self, data):
        self.buffer += data
        self.pump()

    def pump(self):
        if self.pumping:
            return
        self.pumping = True
        while not self.busy and not self.closed and self.take():
            pass
        self.pumping = False

    def take(self):
        """Takes one request off the buffer; False when none is whole."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > HEAD_SIZE_MAX:
                self.transport.abort()
            return False
        lines = bytes(self.buffer[:end]).split(b"\r\n")
        headers = []
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers.append((name.strip().lower(), value.strip()))
        length = int(dict(headers).get(b"content-length", b"0"))
        if b"transfer-encoding" in dict(headers):
            raise AssertionError("the stand-in takes no chunked requests")
        if len(self.buffer) < end + 4 + length:
            return False
        request = Request()
        request.body = bytes(self.buffer[end + 4:end + 4 + length])
        del self.buffer[:end + 4 + length]
        request.method, request.target = [part for part in lines[0].split(b" ")][:2]
        request.method = request.method.decode("latin-1")
        request.path, _, request.query = request.target.partition(b"?")
        request.headers, request.connection = headers, self.number
        request.at, request.wall_ms = time.monotonic(), time.time() * 1000
        request.answered_at = request.status = request.rule = None
        self.busy = True
        self.service.take(self, request)
        return True

    def write_head(self, code, length, headers):
        extra = b"".join(b"%s: %s\r\n" % pair for pair in headers)
        self.transport.write(b"HTTP/1.1 %d Status\r\nContent-Type: application/json\r\n"
                             b"Content-Length: %d\r\n%s\r\n" % (code, length, extra))

    def reply(self, request, code, content, headers=()):
        if self.closed:
            return
        request.answered_at, request.status = time.monotonic(), code
        extra = b"".join(b"%s: %s\r\n" % pair for pair in headers)
        self.transport.write(b"HTTP/1.1 %d Status\r\nContent-Type: application/json\r\n"
                             b"Content-Length: %d\r\n%s\r\n" % (code, len(content), extra)
                             + (b"" if request.method == "HEAD" else content))
        self.busy = False
        self.pump()

    def reset(self):
        raw = self.transport.get_extra_info("socket")
        if raw is not None:  # else the other end was faster
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Service:
    """What the three have in common: a listener, the record, the rules."""
    name = ""
    prefix = ""

    def __init__(self, world):
        self.world = world
        self.secret = world.secret
        self.requests = []
        self.rules = []
        self.connections = set()
        self.connection_numbers = itertools.count(1)
        self.server = None
        self.port = None
        self.tls = None

    # -- life

    def start(self):
        """Listens, on the same port as before."""
        if self.port is None:
            listener = listening_socket(self.world.address)
            self.port = listener.getsockname()[1]
        else:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.world.address, self.port))
            listener.listen(512)
        self.server = self.world.run(self.world.loop.create_server(
            lambda: Connection(self), sock=listener, ssl=self.tls, backlog=512))

    def stop(self):
        """Nobody listens any more, and every connection is reset."""
        def end():
            if self.server:
                self.server.close()
                self.server = None
            for connection in list(self.connections):
                connection.reset()
        self.world.call(end)

    # -- misbehaviour

    def misbehave(self, act, when=None, user=None, method=None, times=None):
        """Adds a rule for the requests that fit; the oldest fitting rule acts."""
        def fits(request):
            return ((method is None or request.method == method)
                    and (user is None or user in request.users)
                    and (when is None or when(request)))
        rule = Rule(self, act, fits, times)
        self.rules = self.rules + [rule]
        return rule

    def well(self):
        """No rules any more."""
        for rule in self.rules:
            rule.release()

    # -- requests

    def take(self, connection, request):
        request.service, request.number = self.name, next(self.world.numbers)
        request.users = self.users_of(request)
        self.requests.append(request)
        self.world.requests.append(request)
        for rule in self.rules:
            if rule.when(request) and (rule.times is None or rule.hits < rule.times):
                rule.hits += 1
                request.rule = rule
                rule.act(rule, connection, request)
                return
        self.serve(connection, request)

    def serve(self, connection, request):
        code, content = self.respond(request)
        connection.reply(request, code, content)

    def immediately(self, request):
        """Does what the request asks, and gives the answer without waiting."""
        return self.respond(request)

    def lost(self, connection):
        pass

    def users_of(self, _request):
        return []

    def below_prefix(self, request):
        """The raw path parts below the prefix, or None."""
        prefix = self.prefix.encode()
        if not request.path.startswith(prefix + b"/"):
            return None
        return request.path[len(prefix) + 1:].split(b"/")

    def granted(self, token):
        """The user of "<secret>.<user>", or None."""
        start = self.secret + "."
        return token[len(start):] if token.startswith(start) else None


def error(code, name, message=""):
    return code, json.dumps({"code": name, "message": message or name}).encode()


NOT_FOUND = error(404, "ResourceNotFound")
CREDENTIALS = error(401, "InvalidCredentialsError", "Invalid credentials")


class Events(Service):
    name, prefix = "events", "/events/v1"

    def __init__(self, world):
        super().__init__(world)
        self.poll_timeout = 5.0      # seconds
        self.immediate_empty = False  # answer [] at once, as 1.5.5 does
        self.channels = {}           # name -> ([ids ascending], [their bytes])
        self.positions = {}          # (client, channel) -> position
        self.acks = []               # (at, client, channel, text of after)
        self.polls = []              # requests
        self.script = None           # f (params, cursor) -> bytes or None
        self.waiters = {}            # connection -> (channel, cursor, limit, request, timer)
        self.logins = {}             # user -> first LOGIN id that counts
        self.users = {}              # id -> user

    # -- what tests do

    def add(self, user="alice", type="LOGIN", source="game-2", data=None, id=None, raw=None,
            channel="users/v1"):
        """Makes an event visible; its id."""
        return self.add_many([dict(user=user, type=type, source=source, data=data, id=id,
                                   raw=raw)], channel)[0]

    def add_logins(self, users):
        return self.add_many([dict(user=user) for user in users])

    def add_many(self, events, channel="users/v1"):
        return self.world.call(lambda: self._add_many(events, channel))

    def _add_many(self, events, channel):
        ids, contents = self.channels.setdefault(channel, ([], []))
        given = []
        for event in events:
            number = event.get("id") or (ids[-1] + 1 if ids else 1)
            content = event.get("raw")
            if content is None:
                data = event.get("data")
                user = event.get("user", "alice")
                content = encoded_event(number, user, event.get("type", "LOGIN"),
                                        event.get("source", "game-2"), data)
                if event.get("type", "LOGIN") == "LOGIN" and event.get("source",
                                                                       "game-2") == "game-2":
                    self.users[number] = user
                    if user not in self.logins or number < self.logins[user]:
                        self.logins[user] = number
            index = bisect.bisect_left(ids, number)
            ids.insert(index, number)
            contents.insert(index, content)
            given.append(number)
        self._wake(channel)
        return given

    def position(self, client="worker", channel="users/v1"):
        return self.positions.get((client, channel), 0)

    def last(self, channel="users/v1"):
        ids = self.channels.get(channel, ([], []))[0]
        return ids[-1] if ids else 0

    # -- the service

    def page(self, channel, cursor, limit):
        ids, contents = self.channels.get(channel, ([], []))
        start = bisect.bisect_right(ids, cursor)
        return contents[start:start + limit]

    def _wake(self, channel):
        for connection, waiter in list(self.waiters.items()):
            if waiter[0] == channel and self.page(*waiter[:3]):
                self._answer_waiter(connection)

    def _answer_waiter(self, connection):
        channel, cursor, limit, request, timer = self.waiters.pop(connection)
        timer.cancel()
        content = b"[" + b",".join(self.page(channel, cursor, limit)) + b"]"
        connection.reply(request, 200, content)

    def lost(self, connection):
        waiter = self.waiters.pop(connection, None)
        if waiter:
            waiter[4].cancel()

    def serve(self, connection, request):
        found = self.respond(request)
        if found[0] is not WAIT:
            connection.reply(request, *found)
            return
        _, channel, cursor, limit = found
        timer = self.world.loop.call_later(self.poll_timeout, self._answer_waiter, connection)
        self.waiters[connection] = (channel, cursor, limit, request, timer)

    def immediately(self, request):
        found = self.respond(request)
        return (200, b"[]") if found[0] is WAIT else found

    def respond(self, request):
        if request.path == b"/latest" or request.path == self.prefix.encode() + b"/latest":
            return self.latest(request)
        if request.path != self.prefix.encode() + b"/events":
            return NOT_FOUND
        if request.method == "POST":
            return self.post(request)
        params = request.params()
        self.polls.append(request)
        if not params.get("clientId"):
            return error(400, "InvalidContent", "Invalid Client ID")
        if not params.get("channel"):
            return error(400, "InvalidContent", "Invalid Channel")
        if params.get("secret") != self.secret:
            return CREDENTIALS
        return self.poll(request, params)

    def poll(self, request, params):
        client, channel = params["clientId"], params["channel"]
        if "after" in params:
            text = params["after"]
            usable = CANONICAL.match(text) and int(text) <= POSITION_MAX
            cursor = int(text) if usable else 0
            self.positions[(client, channel)] = cursor
            self.acks.append((request.at, client, channel, text))
        else:
            cursor = self.positions.get((client, channel), 0)
        text = params.get("limit", "100")
        limit = int(text) if text.isdigit() and int(text) > 0 else 100
        if self.script:
            content = self.script(params, cursor)
            if content is not None:
                return 200, content
        page = self.page(channel, cursor, limit)
        if page or self.immediate_empty:
            return 200, b"[" + b",".join(page) + b"]"
        return WAIT, channel, cursor, limit

    def latest(self, request):
        params = request.params()
        if not params.get("channel"):
            return error(400, "InvalidContent", "Invalid Channel")
        if params.get("secret") != self.secret:
            return CREDENTIALS
        contents = self.channels.get(params["channel"], ([], []))[1]
        return 200, b"[" + b",".join(contents[-int(params.get("limit", "100")):]) + b"]"

    def post(self, request):
        try:
            event = json.loads(request.body)
        except ValueError:
            return error(400, "InvalidContent", "not JSON")
        if event.get("secret") != self.secret:
            return CREDENTIALS
        for name in ("clientId", "channel", "from", "type"):
            if not isinstance(event.get(name), str) or not event[name]:
                return error(400, "InvalidContent", "Invalid " + name)
        if "data" in event and not isinstance(event["data"], (dict, list)):
            return error(400, "InvalidContent", "Invalid data")
        data = event.get("data")
        user = data.get("userId") if isinstance(data, dict) else None
        number = self._add_many([dict(user=user, type=event["type"], source=event["from"],
                                      data=data)], event["channel"])[0]
        ids, contents = self.channels[event["channel"]]
        return 200, contents[ids.index(number)]


def encoded_event(number, user="alice", type="LOGIN", source="game-2", data=None):
    """An event as the service writes it."""
    return json.dumps({"id": number, "timestamp": 1491000000000 + number, "from": source,
                       "type": type,
                       "data": {"userId": user, "aliases": {}} if data is None else data},
                      separators=(",", ":"), ensure_ascii=False).encode()


class Usermeta(Service):
    name, prefix = "usermeta", "/usermeta/v1"

    def __init__(self, world):
        super().__init__(world)
        self.store = {}      # "<user>:<key>" -> text
        self.public = set()  # keys that need no secret
        self.writes = []     # (at, user, key, value, wall ms)

    def put(self, user, key, value):
        self.store[user + ":" + key] = value

    def get(self, user, key):
        return self.store.get(user + ":" + key)

    def decoded(self, request):
        parts = self.below_prefix(request)
        if parts is None:
            return None
        try:
            return [percent_decoded(part) for part in parts]
        except UnicodeDecodeError:
            return None

    def users_of(self, request):
        parts = self.decoded(request)
        if not parts:
            return []
        if parts[0] == "auth" and len(parts) in (2, 3) and "." in parts[1]:
            user = self.granted(parts[1])
            return [user if user is not None else parts[1]]
        return [item.strip(JS_SPACE) for item in parts[0].split(",")]

    def respond(self, request):
        parts = self.decoded(request)
        if parts is None:
            return NOT_FOUND
        if request.method == "GET" and len(parts) == 2:
            known = request.params().get("secret") == self.secret
            return self.read(parts[0], parts[1], known)
        if parts[0] != "auth" or len(parts) not in (2, 3):
            return NOT_FOUND
        user = self.granted(parts[1])
        if request.method == "GET" and len(parts) == 3:
            if user is None:
                return error(401, "InvalidAuthTokenError")
            return self.read_items([user], parts[2], True)
        if request.method == "POST":
            return self.write(request, user, parts[2] if len(parts) == 3 else None)
        return NOT_FOUND

    def read(self, users, keys, known):
        users = [item.strip(JS_SPACE) for item in users.split(",")]
        if not all(users):
            return error(400, "InvalidUserIds")
        return self.read_items(users, keys, known)

    def read_items(self, users, keys, known):
        keys = [item.strip(JS_SPACE) for item in keys.split(",")]
        if not all(keys):
            return error(400, "InvalidMetanames")
        found = {user: {} for user in users}
        for user in users:
            if ":" in user:
                return error(500, "InternalServer")
            for key in keys:
                value = self.store.get(user + ":" + key)
                if value is not None and (known or key in self.public):
                    found[user][key.split(":")[0]] = value
        return 200, json.dumps(found).encode()

    def write(self, request, user, key):
        if user is None:
            return error(401, "InvalidAuthTokenError")
        if ":" in user:
            return error(500, "InternalServer")
        try:
            values = json.loads(request.body)
        except ValueError:
            return error(400, "InvalidContent")
        if key is not None:
            values = {key: values.get("value")} if isinstance(values, dict) else None
        if not isinstance(values, dict) or not all(isinstance(value, str)
                                                   for value in values.values()):
            return error(400, "InvalidValue")
        for name, value in values.items():
            self.put(user, name, value)
            self.writes.append((time.monotonic(), user, name, value, request.wall_ms))
        return 200, b"{}"


def lists(request):
    """For `when`: it asks for a list of transactions."""
    return request.path.endswith(b"/transactions")


class Currency(Service):
    name, prefix = "virtualcurrency", "/virtualcurrency/v1"

    def __init__(self, world):
        super().__init__(world)
        self.page_max = None         # transactions on a page at most, whatever is asked for
        self.limit_ignored = False   # all on one page
        self.before_ignored = False
        self.oldest_first = False
        self.stale = 0.0             # seconds until a transaction is on the list
        self.transactions = []
        self.rewards = {}  # user -> [when applied]
        self.by_user = {}  # user -> transactions: those up to `sorted`
        self.sorted = 0

    def users_of(self, request):
        if request.method == "POST":
            try:
                return [json.loads(request.body).get("to")]
            except (ValueError, AttributeError):
                return []
        parts = self.below_prefix(request)
        if parts and parts[0] == b"auth" and len(parts) > 1:
            try:
                user = self.granted(percent_decoded(parts[1]))
            except UnicodeDecodeError:
                return []
            return [] if user is None else [user]
        return []

    def respond(self, request):
        parts = self.below_prefix(request)
        if parts is None:
            return NOT_FOUND
        if request.method == "POST" and parts == [b"rewards"]:
            return self.reward(request)
        if request.method != "GET" or len(parts) < 3 or parts[0] != b"auth":
            return NOT_FOUND
        user = self.granted(percent_decoded(parts[1]))
        if user is None:
            return CREDENTIALS
        if parts[2:] == [b"transactions"]:
            return self.listing(user, request.params())
        if len(parts) == 5 and parts[2] == b"coins" and parts[4] == b"count":
            return 200, json.dumps([
                {"currency": name, "count": self.count(user, name)}
                for name in percent_decoded(parts[3]).split(",")]).encode()
        return NOT_FOUND

    def count(self, user, currency="gold"):
        return sum(made["amount"] for made in self.transactions
                   if made["username"] == user and made["currency"] == currency)

    def reward(self, request):
        try:
            wanted = json.loads(request.body)
        except ValueError:
            return error(400, "InvalidContent")
        if not isinstance(wanted, dict) or wanted.get("secret") != self.secret:
            return CREDENTIALS
        for name in ("to", "from", "currency"):
            if not isinstance(wanted.get(name), str) or not wanted[name]:
                return error(400, "InvalidContent", "Invalid " + name)
        if type(wanted.get("amount")) is not int:
            return error(400, "InvalidContent", "Invalid amount")
        data = dict(wanted.get("data") or {})
        data["from"] = wanted["from"]
        self.transactions.append({
            "id": "tx-%d" % (len(self.transactions) + 1), "type": "reward",
            "username": wanted["to"], "timestamp": int(time.time() * 1000),
            "amount": wanted["amount"], "currency": wanted["currency"], "reason": "reward",
            "data": data})
        self.rewards.setdefault(wanted["to"], []).append(time.monotonic())
        return 200, b'{"ok":true}'

    def transactions_of(self, user):
        """Oldest first. A test may have added some by itself."""
        for made in self.transactions[self.sorted:]:
            self.by_user.setdefault(made["username"], []).append(made)
        self.sorted = len(self.transactions)
        return self.by_user.get(user, [])

    def listing(self, user, params):
        reasons = params.get("reasons", "").split(",") if params.get("reasons") else None
        currencies = params.get("currencies", "").split(",") if params.get("currencies") else None
        before = POSITION_MAX if self.before_ignored else int(params.get("before", POSITION_MAX))
        newest = (time.time() - self.stale) * 1000
        found = [made for made in reversed(self.transactions_of(user))
                 if made["timestamp"] < before
                 and (not self.stale or made["timestamp"] <= newest)
                 and (not reasons or made["reason"] in reasons)
                 and (not currencies or made["currency"] in currencies)]
        if not self.limit_ignored:
            found = found[:int(params.get("limit", "51"))][:self.page_max]
        return 200, json.dumps(found[::-1] if self.oldest_first else found).encode()


class World:
    """The three services, their thread, and the record of everything."""

    def __init__(self, secret, address="127.0.0.1"):
        self.secret, self.address = secret, address
        self.requests = []
        self.numbers = itertools.count(1)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.events, self.usermeta, self.currency = Events(self), Usermeta(self), Currency(self)
        self.services = (self.events, self.usermeta, self.currency)

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def call(self, function):
        """Calls it in the thread of the services."""
        if threading.current_thread() is self.thread:
            return function()

        async def inside():
            return function()
        return self.run(inside())

    def start(self):
        for service in self.services:
            service.start()
        return self

    def players(self, users):
        """These have logged in to the first app."""
        for user in users:
            self.usermeta.put(user, "auth", "1490999999000")

    def close(self):
        for service in self.services:
            service.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()
