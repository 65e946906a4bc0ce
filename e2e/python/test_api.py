"""The HTTP API as the client `cent` sees it, both its faces, on one node and on two with a Redis:
what one node was told, the other is asked for."""

import asyncio
import os
import sys
import unittest
import uuid

import cent
import report
from cent.exceptions import CentApiResponseError, CentUnauthorizedError
from processes import Node, Redis

CONFIG = os.path.join(os.path.dirname(__file__), "api.toml")
TIMEOUT = 10.0


def channel():
    return f"channel-{uuid.uuid4().hex}"


class Blocking:
    """`cent.Client`."""

    def open(self, address, key):
        client = cent.Client(address, key, timeout=TIMEOUT)
        self.addClassCleanup(client.close)
        return lambda request: getattr(client, request.api_method)(request)


class Awaiting:
    """`cent.AsyncClient`, on a loop of its own."""

    def open(self, address, key):
        loop = asyncio.new_event_loop()

        async def make():
            return cent.AsyncClient(address, key, timeout=TIMEOUT)

        client = loop.run_until_complete(make())
        self.addClassCleanup(lambda: (loop.run_until_complete(client.close()), loop.close()))
        return lambda request: loop.run_until_complete(getattr(client, request.api_method)(request))


class OnOneNode:
    """The memory broker."""

    @classmethod
    def start(cls):
        node = cls.enterClassContext(Node(os.environ["DUNLIN"], CONFIG))
        return node, node


class OnTwoNodes:
    """Two nodes, one Redis."""

    @classmethod
    def start(cls):
        redis = cls.enterClassContext(Redis())
        nodes = (Node(os.environ["DUNLIN"], CONFIG, redis) for _ in range(2))
        return tuple(cls.enterClassContext(node) for node in nodes)


class Cases:
    """`self.here` asks one node, `self.there` the other."""

    @classmethod
    def setUpClass(cls):
        cls.nodes = cls.start()
        cls.here, cls.there = (
            staticmethod(cls.open(cls, f"{node.url}/api", "api_key")) for node in cls.nodes
        )

    def publish(self, channel, **more):
        return self.here(cent.PublishRequest(channel=channel, data={"text": "hello"}, **more))

    def history(self, channel, **more):
        return self.there(cent.HistoryRequest(channel=channel, **more))

    def assert_refused(self, code, call, *arguments, **more):
        with self.assertRaises(CentApiResponseError) as refused:
            call(*arguments, **more)
        self.assertEqual(refused.exception.code, code, refused.exception)

    def test_publish_counts_offsets_in_an_epoch(self):
        name = channel()
        first, second = self.publish(name), self.publish(name)
        self.assertEqual((first.offset, second.offset), (1, 2))
        self.assertTrue(first.epoch)
        self.assertEqual(first.epoch, second.epoch)

    def test_publish_without_history_has_no_offset(self):
        self.assertEqual(self.publish("bare:x").offset, 0)
        name = channel()
        self.assertEqual(self.publish(name, skip_history=True).offset, 0)
        self.assertEqual(self.history(name, limit=-1).publications, [])

    def test_publish_twice_under_one_key_is_once(self):
        name = channel()
        first = self.publish(name, idempotency_key="once")
        again = self.there(
            cent.PublishRequest(channel=name, data={"text": "again"}, idempotency_key="once")
        )
        self.assertEqual((first.offset, first.epoch), (again.offset, again.epoch))
        self.assertEqual(len(self.history(name, limit=-1).publications), 1)

    def test_an_undefined_namespace_is_an_unknown_channel(self):
        self.assert_refused(102, self.publish, "undefined:channel")
        self.assert_refused(102, self.history, "undefined:channel")

    def test_publish_without_a_channel_is_a_bad_request(self):
        self.assert_refused(107, self.publish, "")

    def test_broadcast_answers_for_each_channel_in_order(self):
        names = [channel(), "undefined:channel", channel()]
        self.publish(names[2])
        result = self.here(cent.BroadcastRequest(channels=names, data={"text": "to all"}))
        first, second, third = result.responses
        self.assertEqual((first.result.offset, second.error.code, third.result.offset), (1, 102, 2))

    def test_history_is_whole_in_order_and_in_pages(self):
        name = channel()
        for number in range(10):
            tags = {"n": str(number)}
            self.here(cent.PublishRequest(channel=name, data={"n": number}, tags=tags))
        numbers = lambda result: [one.data["n"] for one in result.publications]
        whole = self.history(name, limit=-1)
        self.assertEqual(numbers(whole), list(range(10)))
        self.assertEqual([one.offset for one in whole.publications], list(range(1, 11)))
        self.assertEqual(whole.offset, 10)
        self.assertEqual(whole.publications[3].tags, {"n": "3"})

        since = cent.StreamPosition(offset=4, epoch=whole.epoch)
        self.assertEqual(numbers(self.history(name, limit=2, since=since)), [4, 5])
        self.assertEqual(numbers(self.history(name, limit=2, since=since, reverse=True)), [2, 1])
        self.assertEqual(numbers(self.history(name, limit=3, reverse=True)), [9, 8, 7])
        top = self.history(name)
        self.assertEqual((top.publications, top.offset, top.epoch), ([], 10, whole.epoch))
        since = cent.StreamPosition(offset=4, epoch="another")
        self.assert_refused(112, self.history, name, limit=2, since=since)

    def test_history_can_be_removed(self):
        name = channel()
        self.publish(name)
        self.there(cent.HistoryRemoveRequest(channel=name))
        self.assertEqual(self.history(name, limit=-1).publications, [])

    def test_what_is_off_is_not_available(self):
        self.assert_refused(108, self.history, "bare:x", limit=1)
        self.assert_refused(108, self.here, cent.HistoryRemoveRequest(channel="bare:x"))
        self.assert_refused(108, self.here, cent.PresenceRequest(channel="bare:x"))
        self.assert_refused(108, self.here, cent.PresenceStatsRequest(channel="bare:x"))

    def test_presence_of_nobody_is_empty(self):
        name = channel()
        self.assertEqual(self.here(cent.PresenceRequest(channel=name)).presence, {})
        stats = self.here(cent.PresenceStatsRequest(channel=name))
        self.assertEqual((stats.num_clients, stats.num_users), (0, 0))

    def test_orders_for_somebody_absent_are_no_errors(self):
        for request in (
            cent.SubscribeRequest(user="nobody", channel=channel()),
            cent.UnsubscribeRequest(user="nobody", channel=channel()),
            cent.DisconnectRequest(user="nobody"),
            cent.RefreshRequest(user="nobody", expired=True),
            cent.RevokeTokenRequest(uid=uuid.uuid4().hex),
            cent.InvalidateUserTokensRequest(user="nobody"),
        ):
            self.here(request)

    def test_info_names_all_nodes(self):
        nodes = self.here(cent.InfoRequest()).nodes
        self.assertEqual(len(nodes), len(set(self.nodes)))
        self.assertEqual(len({node.uid for node in nodes}), len(nodes))
        self.assertTrue(all(node.name and node.version for node in nodes))

    def test_nobody_is_connected_and_in_no_channel(self):
        self.assertEqual(self.here(cent.ChannelsRequest(pattern="*")).channels, {})
        self.assertEqual(self.here(cent.ChannelsRequest()).channels, {})
        connections = self.here(cent.ConnectionsRequest(user="nobody", expression="")).connections
        self.assertEqual(connections, {})

    def test_a_batch_answers_each_command_in_order(self):
        name, other = channel(), channel()
        publish = cent.PublishRequest(channel=name, data={"text": "one"})
        for parallel in (False, True):
            requests = [
                publish,
                publish,
                cent.BroadcastRequest(channels=[name, other], data={"text": "all"}),
                cent.PresenceRequest(channel=name),
            ]
            replies = self.here(cent.BatchRequest(requests=requests, parallel=parallel)).replies
            first, second, all_of_them, presence = replies
            self.assertTrue(first.offset and second.offset)
            self.assertTrue(all(one.result.offset for one in all_of_them.responses))
            self.assertEqual(presence.presence, {})

    def test_who_has_no_key_is_not_let_in(self):
        for key in ("", "another"):
            ask = self.open(f"{self.nodes[0].url}/api", key)
            with self.assertRaises(CentUnauthorizedError):
                ask(cent.InfoRequest())


class BlockingOnOneNode(Cases, Blocking, OnOneNode, unittest.TestCase):
    pass


class BlockingOnTwoNodes(Cases, Blocking, OnTwoNodes, unittest.TestCase):
    pass


class AwaitingOnOneNode(Cases, Awaiting, OnOneNode, unittest.TestCase):
    pass


class AwaitingOnTwoNodes(Cases, Awaiting, OnTwoNodes, unittest.TestCase):
    pass


if __name__ == "__main__":
    sys.exit(not report.run(unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])))
