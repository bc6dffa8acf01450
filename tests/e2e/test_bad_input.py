"""test_bad_input.py - events and pages that are not what they should be: each
is counted and logged, and the rest goes on."""
import harness
import standin
from harness import wait_until

CHANNEL = "users/v1"


def login(number, data=b'{"userId":"alice"}', source=b'"game-2"', type=b'"LOGIN"'):
    return (b'{"id":%d,"timestamp":1491000000123,"from":%s,"type":%s,"data":%s}'
            % (number, source, type, data))


class BadEvents(harness.Case):
    def among_good(self, bad, failures, ignored, logged=None):
        """These events between good ones: the good ones are served, the bad
        ones counted so, and the first `logged` of them (all) logged with their
        id. Takes f (id) -> bytes."""
        good = ["good%d" % n for n in range(len(bad) + 1)]
        self.world.players(good + ["alice"])
        events, numbers = [dict(user=good[0])], []
        for index, make in enumerate(bad):
            numbers.append(2 * index + 2)
            events.append(dict(raw=make(2 * index + 2)))
            events.append(dict(user=good[index + 1]))
        self.events.add_many(events)
        worker = self.worker(LOG_LEVEL="DEBUG")
        count = len(events)
        self.assertEqual((count, len(good), failures, ignored), self.wait_rest(worker, count))
        self.wait_acked(count)
        self.assert_each_once(good)
        worker.stop()
        about = {line.get("event") for line in worker.log_lines()}
        self.assertEqual(set(), set(numbers[:logged]) - about, "events that no log line is about")
        return worker

    def test_user_ids_that_are_none(self):
        datas = [b'{}', b'null', b'[]', b'[1,2]', b'"alice"', b'{"userId":null}',
                 b'{"userId":12}', b'{"userId":true}', b'{"userId":["alice"]}',
                 b'{"userId":{"userId":"alice"}}', b'{"userId":""}', b'{"userid":"alice"}']
        self.among_good([lambda n, data=data: login(n, data) for data in datas] +
                        [lambda n: b'{"id":%d,"timestamp":1,"from":"game-2","type":"LOGIN"}' % n],
                        0, len(datas) + 1)

    def test_user_ids_that_cannot_be(self):
        datas = [b'{"userId":"' + b"x" * 10240 + b'"}', b'{"userId":"\xff\xfe"}',
                 b'{"userId":"a\xc3"}', b'{"userId":"\xed\xa0\x80"}', b'{"userId":"\\ud800x"}',
                 b'{"userId":"a\xc0\x80"}']
        self.among_good([lambda n, data=data: login(n, data) for data in datas], len(datas), 0)
        for request in self.usermeta.requests:
            self.assertLess(len(request.target), 9000)
            self.assertNotIn(b"%EF%BF%BD", request.target.upper())
            self.assertFalse(any("?" in user for user in request.users), request)
            standin.percent_decoded(request.path.decode("ascii"))  # raises when not UTF-8

    def test_ids_of_the_largest_size_that_can_be(self):
        users = ["x" * 8000, "y" * 7999]
        self.world.players(users)
        self.events.add_logins(users + ["z" * 8001])
        worker = self.worker()
        self.assertEqual((3, 2, 1, 0), self.wait_rest(worker, 3))
        self.assert_each_once(users)

    def test_data_that_is_too_much(self):
        keys = b",".join(b'"k%d":1' % n for n in range(10000))
        datas = [b'{"userId":"alice","x":"' + b"x" * (1 << 20) + b'"}',
                 b'{"userId":"alice",' + keys + b'}',
                 b'{"userId":"alice","x":' + b"[" * 100 + b"]" * 100 + b'}',
                 b'{"userId":"alice","x":' + b'{"a":' * 100 + b"1" + b"}" * 101]
        other = [lambda n, data=data: login(n, data, b'"game-1"') for data in datas]
        # What another app sent is no business of ours: nobody need be told.
        self.among_good([lambda n, data=data: login(n, data) for data in datas] + other,
                        len(datas), len(other), logged=len(datas))

    def test_data_with_more_than_it_needs(self):
        self.world.players(["alice", "bob"])
        self.events.add_many([
            dict(raw=login(1, b'{"aliases":{"a":[1,{"b":null}]},"x":1.5e300,"userId":"alice"}')),
            dict(raw=b' {"data" : {"userId" : "bo\\u0062", "more":"\\u00e9\\ud83c\\udfc6"},'
                     b'"unknown":[{}], "type":"LOG\\u0049N","from":"game-2",\n"id":2}  ')])
        worker = self.worker()
        self.assertEqual((2, 2, 0, 0), self.wait_rest(worker, 2))
        self.assert_each_once(["alice", "bob"])

    def test_a_key_twice_means_the_last_one(self):
        # As every reader of JSON before us has understood it.
        self.world.players(["alice", "bob"])
        self.events.add(raw=login(1, b'{"userId":"alice","userId":"bob"}'))
        self.worker()
        self.wait_acked(1)
        self.assert_each_once(["bob"])

    def test_names_that_are_none(self):
        self.among_good([
            lambda n: login(n, source=b"null"), lambda n: login(n, source=b"7"),
            lambda n: login(n, type=b"null"), lambda n: login(n, type=b'["LOGIN"]'),
            lambda n: login(n, type=b'""'), lambda n: login(n, source=b'"' + b"g" * 300 + b'"'),
            lambda n: b'{"id":%d}' % n], 0, 7, logged=0)

    def page_once(self, elements, then, **env):
        """A worker whose first page has these elements; what the service keeps
        is `then`. All of the worker is there: a page comes again, and this one
        would not, when there is a shard that cannot take its part yet."""
        self.events.immediate_empty = True
        worker = self.worker(**env).wait_ready()
        served = []

        def script(_params, cursor):
            if cursor or served:
                return None
            served.append(True)
            return b"[" + b",".join(elements) + b"]"
        self.events.script = script
        wait_until(lambda: served, 10, "the page is read")
        self.events.add_many(then)
        return worker

    def test_events_without_a_usable_id(self):
        self.world.players(["one", "two", "alice"])
        bad = [b'{"timestamp":1,"from":"game-2","type":"LOGIN","data":{"userId":"alice"}}',
               b'{"id":"7","from":"game-2","type":"LOGIN","data":{"userId":"alice"}}',
               b'{"id":null,"from":"game-2","type":"LOGIN","data":{"userId":"alice"}}',
               b'{"id":-3,"from":"game-2","type":"LOGIN","data":{"userId":"alice"}}',
               b'{"id":1.5,"from":"game-2","type":"LOGIN","data":{"userId":"alice"}}',
               b'{"id":1e300,"from":"game-2","type":"LOGIN","data":{"userId":"alice"}}',
               b'{"id":9007199254740992,"from":"game-2","type":"LOGIN","data":{"userId":"alice"}}',
               b'7', b'null', b'"x"', b'[]', b'{}']
        good = [standin.encoded_event(1, "one"), standin.encoded_event(2, "two")]
        worker = self.page_once([good[0]] + bad + [good[1]],
                                [dict(user="one"), dict(user="two")])
        count = len(bad) + 2
        self.assertEqual((count, 2, len(bad), 0), self.wait_rest(worker, count))
        self.wait_acked(2)
        self.assertEqual({"one": 1, "two": 1}, {user: count for user, count in
                                                self.rewarded().items() if user != "alice"})
        self.assertEqual(0, self.rewards_of("alice"))

    def test_the_same_event_twice_in_a_page(self):
        self.world.players(["one", "two"])
        one, two = standin.encoded_event(1, "one"), standin.encoded_event(2, "two")
        worker = self.page_once([one, one, two, one, two],
                                [dict(user="one"), dict(user="two")])
        self.wait_rewarded(["one", "two"])
        self.wait_acked(2)
        self.wait_rest(worker, 2)
        self.assert_each_once(["one", "two"])

    def test_ids_that_go_backwards(self):
        users = ["u%d" % n for n in range(1, 8)]
        self.world.players(users)
        order = [1, 2, 5, 3, 4, 6, 7]
        worker = self.page_once([standin.encoded_event(n, "u%d" % n) for n in order],
                                [dict(user=user) for user in users], LOG_LEVEL="DEBUG")
        self.wait_acked(7)
        self.wait_rest(worker, 7)
        self.assert_each_once(users)

    def test_a_page_that_starts_again_from_the_beginning(self):
        users = ["u%d" % n for n in range(1, 11)]
        self.world.players(users)
        self.events.add_logins(users)
        again = []

        def script(_params, cursor):
            if cursor != 10 or len(again) >= 3:
                return None
            again.append(True)
            return b"[" + b",".join(standin.encoded_event(n, "u%d" % n)
                                    for n in range(1, 11)) + b"]"
        self.events.script = script
        worker = self.worker()
        wait_until(lambda: len(again) >= 3, 10, "the old page was served again")
        self.events.add("late")
        self.world.players(["late"])
        self.wait_acked(11)
        self.wait_rest(worker, 11)
        self.assertEqual(set(users), set(self.rewarded()) - {"late"})
        self.assertEqual({1}, set(self.rewarded().values()))

    def test_a_service_that_ignores_limit(self):
        users = ["u%d" % n for n in range(2500)]
        self.world.players(users[:10])
        self.events.add_logins(users)
        whole = b"[" + b",".join(self.events.channels[CHANNEL][1]) + b"]"
        self.events.script = lambda _params, cursor: whole if cursor == 0 else None
        worker = self.worker(WINDOW=100)
        self.wait_acked(2500, 20)
        self.assert_each_once(users[:10])
        counters = self.wait_rest(worker, 2500)
        self.assertEqual((10, 0), counters[1:3])


class BadPages(harness.Case):
    """The polls are spoiled for a while; then everything is served, once."""
    users = ["u%d" % n for n in range(50)]

    def spoiled(self, act, times=3):
        self.world.players(self.users)
        self.events.add_logins(self.users)
        rule = self.events.misbehave(act, method="GET", times=times)
        worker = self.worker()
        self.wait_rewarded(self.users)
        self.wait_acked(50)
        self.assert_each_once(self.users)
        counters = self.wait_rest(worker, 50)
        self.assertEqual((50, 0, 0), counters[1:])
        wait_until(lambda: rule.hits == times, 10, "%d polls were spoiled" % times)
        worker.stop()

    def test_not_json(self):
        self.spoiled(standin.not_json())

    def test_nothing_at_all(self):
        self.spoiled(standin.body(b""))

    def test_an_object_instead_of_an_array(self):
        self.spoiled(standin.body(b'{"events":[]}'))

    def test_an_object_with_an_event_inside(self):
        self.spoiled(standin.body(standin.encoded_event(1, "u0")))

    def test_a_number_instead_of_an_array(self):
        self.spoiled(standin.body(b"17"))

    def test_truncated_json(self):
        self.spoiled(standin.truncated_json())

    def test_two_pages_in_one(self):
        self.spoiled(standin.body(lambda right: right + right))

    def test_half_a_reply(self):
        self.spoiled(standin.half())

    def test_a_length_that_promises_too_much(self):
        self.spoiled(standin.lying_length(100))

    def test_a_length_that_promises_too_little(self):
        self.spoiled(standin.lying_length(-100))

    def test_levels_without_end(self):
        self.spoiled(standin.body(b"[" * 100000), times=1)

    def test_a_page_of_many_megabytes(self):
        self.spoiled(standin.body(b"[" + b" " * (20 << 20) + b"]"), times=1)

    def test_one_event_that_goes_on_for_megabytes(self):
        self.spoiled(standin.body(b'[{"id":1,"data":{"userId":"' + b"x" * (20 << 20)), times=1)

    def test_a_page_of_a_hundred_thousand_rubbish_elements(self):
        # Each counts as received and failed, and stands in nobody's way.
        self.world.players(["alice"])
        self.events.add("alice")
        self.events.misbehave(standin.body(b"[" + b"0," * 99999 + b"0]"), method="GET", times=1)
        worker = self.worker()
        self.wait_rewarded(["alice"])
        self.wait_acked(1)
        counters = self.wait_rest(worker, 1)
        self.assertEqual(1, counters[1])
        if not harness.sanitized():
            self.assertLess(worker.rss_kb(), 64 << 10)


if __name__ == "__main__":
    harness.main()
